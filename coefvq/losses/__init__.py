"""Distillation losses: pure functions of tensors, each with a thin module over it."""
