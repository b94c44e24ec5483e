"""Whether elements stay where the step would go along the gradient."""

from collections.abc import Mapping
from typing import Any

from fastoptim.settings.fields import Field, Switch

RESCALED = "rescaled"


class Cautious(Switch):
    """True, False, or "rescaled": then the other elements make longer steps instead."""

    def check(self, value: Any, fields: Mapping[str, Field]) -> Any:
        if isinstance(value, str):
            if value != RESCALED:
                raise self.refusal(f"True, False or {RESCALED!r}", value)
            return value
        return super().check(value, fields)
