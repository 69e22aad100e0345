from tests.evaluation.conftest import tiny_models, videos, workdir

__all__ = ["tiny_models", "videos", "workdir"]
