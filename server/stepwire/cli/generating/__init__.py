"""Write the types of a workflow in other languages.

`shapes` says what is written, and under which names. One module for each language runs a well-kept generator on it and
adds what ties the types to the client.
"""

from stepwire.cli.generating.languages import LANGUAGES
from stepwire.cli.generating.shapes import Shapes
from stepwire.cli.generating.tools import GeneratorError

__all__ = ["LANGUAGES", "GeneratorError", "Shapes"]
