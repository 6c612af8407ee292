import torch

from coefvq import engine
from coefvq.distiller import public
from coefvq.prepare import prepared_data
from coefvq.teacher_supply.fitting import fit_alone
from coefvq.teacher_supply.training import teacher_objective


def test_a_model_is_trained_in_place_kept_once_and_brought_back(small, tmp_path):
    cfg = small("+recipe=cpfd", folder=tmp_path / "run")
    data = prepared_data(cfg)
    engine.seed_everything(1)
    module = engine.build(cfg.student)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    kept = []

    def fit(**words):
        return fit_alone(
            cfg, data, module, teacher_objective(cfg, data), data.labelled_dataloader(), tmp_path,
            inputs=public, label="alone", learning_rate="optimizer.lr", keep=kept.append, **words,
        )  # fmt: skip

    assert fit(lr=1e-3, max_steps=2) is module and kept == [module]
    assert any(not torch.equal(before[n], v) for n, v in module.state_dict().items())
    assert {p.device.type for p in module.parameters()} == {"cpu"}
    state = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert state["global_step"] == 2
    rates = [group["lr"] for group in state["optimizer_states"][0]["param_groups"]]
    assert max(rates) <= 1e-3
