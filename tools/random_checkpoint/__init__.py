"""Checkpoints of random weights in the layout of dots.ocr, of any size. Read ``checkpoint.py`` first.

``shape.py`` holds the sizes and the files besides the tensors, ``tokenizer.py`` a vocabulary with the real ids.
"""
