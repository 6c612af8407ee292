"""Multimodal language models: frames, sound and text become one causal sequence."""
