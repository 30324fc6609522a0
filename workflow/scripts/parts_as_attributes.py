"""For the site: the parts of an `Examination` are attributes, though their decorator is one of ours.

An extension of Griffe, which reads the sources for mkdocstrings and knows the decorators of the standard library alone.
"""

from typing import Any

import griffe


class PartsAsAttributes(griffe.Extension):
    """Functions below `@_part` are cached attributes."""

    def on_class(self, *, cls: griffe.Class, **kwargs: Any) -> None:
        """Griffe calls this for each class that it has read."""
        del kwargs
        for name, member in list(cls.members.items()):
            if isinstance(member, griffe.Function) and "_part" in {str(one.value) for one in member.decorators}:
                part = griffe.Attribute(name, annotation=member.returns, docstring=member.docstring)
                part.lineno, part.endlineno = member.lineno, member.endlineno
                part.labels = {"cached", "property"}
                cls.set_member(name, part)
