"""Language models: engines that sample and score, adapters, tokenizers, pretrained and base models."""
