"""What is fast: compiled steps, large products, scans, the loss of a large vocabulary.

Each equals a plain form: PyTorch's own, or the equations in `unroll.nn`. One switch chooses between the two for a whole
process, `use`; the environment variable `UNROLL_KERNELS=off` sets it at the start.
"""

from unroll.kernels.record import difference, record
from unroll.kernels.switch import in_use, plain, use

__all__ = ["difference", "in_use", "plain", "record", "use"]
