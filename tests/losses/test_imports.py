import json
import subprocess
import sys

# What a fresh process has loaded after each import. Whatever `import torch` itself loads (numpy,
# sympy, …) is torch's business; everything else must come from the standard library or from us.
PROGRAM = """
import json, sys
import torch
before = set(sys.modules)
import coefvq.losses
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def test_losses_load_torch_and_the_standard_library_only():
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    loaded = json.loads(run.stdout)
    assert "coefvq.losses.cpfd" in loaded
    allowed = {"coefvq", "torch", *sys.stdlib_module_names}
    foreign = {name for name in loaded if name.split(".")[0] not in allowed}
    assert foreign == set()
    ours = {name for name in loaded if name.startswith("coefvq")}
    assert all(
        name in ("coefvq", "coefvq.losses") or name.startswith("coefvq.losses.") for name in ours
    )
