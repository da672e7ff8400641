"""The Jinja templates of a job, as far as their syntax goes."""

from __future__ import annotations

from collections.abc import Iterator

from jinja2 import Environment, TemplateSyntaxError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.meta import find_undeclared_variables
from jinja2.parser import Parser

from zerotune_operator.api.jobs import InferenceJob, Job
from zerotune_trainer.errors import ConfigurationError


class _Generation(Extension):
    """The tag of transformers' chat templates that marks what the assistant wrote."""

    tags = {"generation"}  # noqa: RUF012 - Jinja's own name and type

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """Read the block up to its end."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


_SYNTAX = Environment(extensions=[_Generation, loopcontrols], autoescape=False)  # noqa: S701 - nothing is rendered


def check_templates(job: Job) -> None:
    """See that every template can be read, and that one of a record's columns reads one.

    Raises:
        ConfigurationError: one cannot, or does not.
    """
    for field, template in _templates(job):
        try:
            names = find_undeclared_variables(_SYNTAX.parse(template))
        except TemplateSyntaxError as error:
            raise ConfigurationError(
                f"{field} is not a Jinja template: line {error.lineno}: {error.message}",
                "correct it; a variable is written {{ name }}",
            ) from error
        except RecursionError as error:
            raise ConfigurationError(
                f"{field} is nested deeper than Jinja can read", "write it without that many brackets"
            ) from error
        if not names:
            raise ConfigurationError(
                f"{field} names no variable: every record would become the same text",
                "write {{ NAME }} where the value of a column belongs, or of a chat template {{ messages }}",
            )


def _templates(job: Job) -> Iterator[tuple[str, str]]:
    if job.spec.model.chat_template is not None:
        yield "model.chatTemplate", job.spec.model.chat_template
    if isinstance(job, InferenceJob) and job.spec.data.template is not None:
        yield "data.template", job.spec.data.template
