"""One small file for each family of vision-language models beside LLaVA-OneVision."""
