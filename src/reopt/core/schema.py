"""What a part of the config is made of: strict, immutable, without unknown keys."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

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


class Range(Section):
    """Where a hyperparameter is drawn from."""

    low: Finite
    high: Finite
    scale: Literal["log", "linear", "one_minus_log"] = Field(
        description="uniform in the logarithm, in the value, or in the logarithm of 1 - value"
    )

    @model_validator(mode="after")
    def _possible(self) -> "Range":
        if not self.low < self.high:
            raise ValueError("low must be below high")
        if self.scale == "log" and self.low <= 0:
            raise ValueError("low must be above 0 on a log scale")
        if self.scale == "one_minus_log" and not (self.low >= 0 and self.high < 1):
            raise ValueError("low and high must be in [0, 1) on a one_minus_log scale")
        return self
