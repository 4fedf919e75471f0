"""Scores; detection's are thin over the COCO tools."""
