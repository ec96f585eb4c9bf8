"""A sparse autoencoder beside PCA, ICA and random directions: `directions` fits them, `study` compares."""

from knowscope_tui.studies.decompositions.study import STUDY

__all__ = ["STUDY"]
