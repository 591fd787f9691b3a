"""Files of arrays, read without running anything in them."""

from pathlib import Path

import numpy as np
import safetensors.numpy

from diffusion_adapters.checkpoints.pickles import check_expansion

_KINDS = (".npy", ".npz", ".safetensors")
_EXPANSION = 50  # times its size to which a compressed file may expand; MNIST does to 5


def read_arrays(file: Path) -> dict[str, np.ndarray]:
    """The arrays of a file by name; that of an .npy file is called "array".

    Raises:
        ValueError: for a file of another kind, one that cannot be read, or that expands to far more
            than it holds.
    """
    if file.suffix not in _KINDS:
        raise ValueError(f"Give a file of a kind in {', '.join(_KINDS)}, got {str(file)!r}.")
    check_expansion(file, _EXPANSION)
    try:
        if file.suffix == ".safetensors":
            return dict(safetensors.numpy.load(file.read_bytes()))
        with file.open("rb") as opened:
            loaded = np.load(opened, allow_pickle=False)
            return {"array": loaded} if isinstance(loaded, np.ndarray) else dict(loaded)
    # A cut or damaged archive fails in many ways (zip, zlib, header); an array of objects would
    # need pickle.
    except Exception as error:
        raise ValueError(f"Cannot read {str(file)!r}: {error}") from error
