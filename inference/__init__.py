"""Translate pictures with a trained run.

from inference import load_translator
painting = load_translator("runs/monet")["photo_to_monet"](picture)
"""

from inference.picture_translator import PictureTranslator, load_translator

__all__ = ["PictureTranslator", "load_translator"]
