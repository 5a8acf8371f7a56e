"""Problems whose answers are executed: every right answer counts, and every line of a check can be judged."""

from dpr_mini.tasks.base import PARTS, Item, Task, part_of
from dpr_mini.tasks.menu import TASKS, grade, make, named, verdict
from dpr_mini.tasks.trace import Attempt, Review, Trace, read
