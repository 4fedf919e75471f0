"""Scores, thin over torchmetrics and the COCO tools."""
