"""What a part of the config is made of: strict, immutable, without unknown keys."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

# Everything is computed in float32, which ends at 3.4e38.
Positive = Annotated[float, Field(gt=0, le=1e30)]
NonNegative = Annotated[float, Field(ge=0, le=1e30)]
Finite = Annotated[float, Field(ge=-1e30, le=1e30)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1, le=10_000_000)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]


class Section(BaseModel):
    """A part of the config: immutable, strict about types, no unknown keys, no NaN."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
