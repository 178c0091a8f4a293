"""The callback by which every checkpoint of a fit can be resumed from exactly."""

from unroll.lightning import pl
from unroll.resume.exact import ResumesExactly


class ExactCheckpoints(ResumesExactly, pl.Callback):
    """What `LastCheckpoint` has too, for fits without it. `CarriesState` brings it."""
