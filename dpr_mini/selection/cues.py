"""The words that mark verification and subgoals, as regular expressions over lower-case text, and parts of such.

VERIFIES and SUBGOALS stand for the act alone; behind one of MAY_VERIFY an act must follow (CHECKED). Backtracking is in
backtracking_cues, backtracking_kinds and failed_tries, backward reasoning in backward_cues, backward_kinds and
backward_states. Every repetition is bounded, so a search is linear in the text. Tuned on the dev half of
tests/data/behaviours.jsonl and all of tests/selection/held_back.jsonl but the untouched part.
"""

from __future__ import annotations

# Parts of cues.
START = r"(?:^|(?<=[.!?:>)\n]) {0,2})[^\w\n]{0,6}"  # of a line or a sentence; list marks and bold may stand before it
START_AT = r"^|(?<=[.!?:>)\n])"  # every place at which START can begin
WE = r"(?:let me|let us|let's|lets|we|we can|we could|we should|we must|i|i can|i could|i should|i must|i will|i'll)"
FIND = (
    r"(?:find|calculate|compute|determine|work out|figure out|solve|express|show|prove|establish|evaluate|simplify|"
    r"isolate|convert|identify|count|derive|set up|get|know|obtain|substitute|list)"
)
DO = rf"(?:{FIND}|(?:subtract|add|multiply|divide|halve) (?!\d))"  # such a goal only as an entry of a list
QUANTITY = (
    r"(?:value|number|total|cost|price|sum|length|width|height|area|volume|perimeter|radius|slope|determinant|trace|"
    r"distance|time|speed|rate|amount|profit|average|difference|ratio|probability|denominator|numerator)"
)
METHOD = (
    r"(?:approach|method|claim|conjecture|attempt|idea|guess|assumption|path|strategy|choice|substitution|formula|"
    r"step|answer|result|"
    r"calculation|reasoning|equation|value|solution|line)"
)
BACKWARD = r"(?:backwards?|in reverse|from the (?:end|answer|final answer|result|goal)\b|back from)"
OPERATION = r"(?:add|subtract|multipl|divid|doubl|halv|tripl|squar|cub)\w{1,5}"
EQUATION = r"\d ?[-+*/\u00d7\u00f7^] ?\d|\d[^\w\n]{0,4}[=\u2248]|[=\u2248][^\w\n]{0,4}\d"
GOOD = (
    r"\b(?:correct|matches|match|holds?|works?|agrees?|satisf\w{1,6}|consistent|divisible|fits?|equal|"
    r"as required|gives? \$?\d)\b"
)

VERIFIES = (
    r"\b(?:this|that|it|which|both|all) (?:\w{1,12} )?(?:checks? out|is consistent with|agrees? with|"
    r"match(?:es)? (?:the|our|what)|fits? (?:the|both|all)|holds? for|satisf(?:y|"
    r"ies) (?:the|both|all|our|every))\b",
    r"\b(?:conditions?|constraints?|equations?|requirements?|sides|clues|criteria) (?:\w{1,9} )?"
    r"(?:are|is|hold|agree|match)s? ?(?:\w{1,9} )?(?:met|satisfied|equal|true|fulfilled|hold)\b",
    r"\b(?:both|all) (?:\w{1,9} )?(?:conditions|constraints|equations|requirements) (?:hold|check out|are|work)\b",
    r"\\checkmark|[\u2713\u2714\u2705]",
    r"\b(?:the )?same (?:result|answer|number|value)\b.{0,40}\b(?:confident|before|earlier|good|confirm\w{0,3})",
    r"\b(?:is|are|seems?|looks?|sounds?) (?:this |that |it )?(?:reasonable|plausible)\b",
    r",? (?:exactly )?as (?:required|expected|claimed|stated|the (?:question|"
    r"problem) (?:wants|asks|says|states))\b",
    r"\b(?:match(?:es)?|equals?|agrees? with) [^.\n]{1,40} (?:in|from|of|by) the (?:problem|question|statement)\b",
    r"\b(?:two|both) (?:counts|results|answers|values|methods|ways) (?:agree|match|coincide|"
    r"are the same|give the same)",
    r"\b(?:just like in|just as in|as in) the (?:equation|problem|question|table)\b|\bindeed,? (?=[^.\n]{1,30}=)",
    r"\b(?:is|are) the \w{1,14} (?:\w{1,12} )?(?:we|that|i|which)? ?(?:were|was) (?:told|given)\b",
    r"\b(?:when|for|at|with) \w = \d[^.\n]{0,30} (?:formula|expression|function|rule) (?:gives|says|yields)\b",
    r"\bso (?:the|our|my|this) (?:answer|result|solution) is (?:consistent|correct|right)\b",
    r"\b(?:listing|counting|computing|adding|checking)(?: \w{1,12})? by hand\b|\balso gives \$?\d",
    r"\b(?:this|that|which) (?:confirms|verifies|equals the (?:given|original|stated))\b",
    r"\bwhich is (?:what|exactly what) (?:we|the problem|the question) (?:wanted|expected|said|says|were given)\b",
    r"\b(?:can't|cannot|could not|couldn't) be (?:right|correct), \w{1,12} (?!and\b)",
)
SUBGOALS = (
    rf"{START}(?:step|part|goal|subgoal|sub-goal|case|stage) ?(?:\d{{1,2}}|one|two|three|four)\*{{0,2}} ?"
    r"[:.)\u2013\u2014-][\s*]{0,4}(?=[a-z]{2})",
    rf"^[^\w\n]{{0,4}}\d{{1,2}}[.)] {{0,2}}\*{{0,2}}{DO}|^[*#]{{2,5}} ?{DO}",
    rf"(?:{START}|\b)(?:first|firstly|next|then|finally|second|secondly|third|thirdly|lastly|now),? "
    rf"(?:{WE} |you )(?:will |now |first |then |also )?(?:(?:need|have|want) (?:to )?|must |should )?{FIND}\b",
    rf"{START}(?:first|firstly|second|secondly|lastly),? (?:to )?{FIND}\b|\b{WE} first {FIND}\b",
    r"\b(?:break|split|divide|decompose|separate)(?:ing)? (?:this|it|the (?:problem|task|trip|question|expression|"
    r"sum|figure|shape|calculation|proof|journey|region|work)|things|"
    r"everything) (?:\w{1,12} )?(?:down|up|into)\b(?!\W{0,3}(?:as )?\d)",
    r"\b(?:we|i|proof|problem|solution|question|task|argument|this|it) (?:will )?(?:needs?|has|have|requires?|"
    r"consists of|comes in|falls into|splits into) (?:two|three|four|several) (?:\w{1,12} )?"
    r"(?:things|parts|steps|stages|cases|goals|quantities|pieces|claims|results|facts)\b",
    rf"\b{WE} (?:start|begin) with the (?!(?:\w{{1,12}} )?(?:answer|result|goal|end|target|conclusion|output)\b)",
    r"\bfirst,? the [^.,\n]{1,40}, (?:and )?then the\b|\bnext up\b|\boutline (?:the|my|our|a) \w",
    rf"\b(?:we|i)(?:'ll| will)? (?:also |first |now )?(?:need|want) (?:to know )?the {QUANTITY}\b",
    rf"^[^\w\n]{{0,4}}(?:[a-d]\) )?(?:the )?{QUANTITY}\b[\w ]{{0,30}}: (?=[^\n]{{1,40}}=)",
    r"\b(?:our|my|the) (?:task|job|goal|aim) (?:now )?is to\b|\b(?:helps?|useful|good) to know the\b",
    r"\bsub-?(?:problems?|tasks?|questions?)\b",
    r"\b(?:the|our|my) (?:first|next|second|third|final|last|main|intermediate|immediate) "
    r"(?:step|goal|subgoal|sub-goal|part|task|objective|aim)(?: is| will be|:)",
    rf"\b(?:to|before) (?:{WE} )?(?:can )?{FIND} [^.\n]{{1,60}}, (?:{WE}|you) (?:\w{{1,12}} )?"
    rf"(?:(?:need|have) (?!to\b)|(?:need to|must|have to) (?:first )?(?={FIND})|{FIND}\b)",
    rf"\b(?:{WE} )(?:\w{{1,9}} )?(?:start|begin) (?:by|with) (?:finding|{FIND}\w{{0,3}}ing|computing|calculating|"
    r"determining|solving|evaluating)\b",
    r"\b(?:tackle|handle|deal with|treat|consider|take|do|compute|evaluate) (?:[\w']{1,12} ){1,3}"
    r"(?:first\b|separately|one by one|one at a time|in turn)",
    rf"{START}(?:plan|strategy|outline|roadmap|sub-?goals?|steps)\*{{0,2}} ?:",
    r"\b(?:my|our|the) (?:plan|strategy|game plan) (?:is|will be|here|would be)\b",
    r"\bhere(?:'s| is) (?:my|our|the|a) (?:plan|strategy|outline)\b|\b(?:in|"
    r"into) (?:two|three|four) (?:steps|stages)\b",
    rf"\bthe first thing (?:{WE}|to)\b|\bonce {WE} (?:have|know|find) [^.\n]{{1,40}}, {WE} \w",
    r"\b(?:reduces|boils down|comes down) to (?:finding|computing|showing|counting|proving|solving)\b",
)
MAY_VERIFY = (
    rf"(?:{START}|\b)(?:(?:{WE}|to|now|and|then|also|"
    r"please) (?:\w{1,12} )?(?:verify|double[- ]?check|re-?check|"
    r"cross[- ]?check|see (?:if|whether) (?:this|that|it|our)|check|test|confirm|recount|make sure|"
    r"validate)\b(?! (?:off|out|in|for|their)\b))",
    rf"{START}(?:verify|verifying|verification|check|checking|double-check(?:ing)?|"
    r"confirm|confirming|test|testing|"
    r"sanity check|proof check)(?:\*\*)? ?(?::|\b(?=,| (?:this|that|the|my|our|each|whether|if|by|with|it|n|x)\b))",
    r"\b(?:substitut|plugg?|put)(?:e|ing|ting|s)? (?:\S{1,20} ){0,4}?back\b",
    r"\b(?:is|are) (?:\S{1,12} )?(?:right|correct)\?|"
    r"\bdoes (?!not)(?:\S{1,12} ){1,2}(?:make sense|work|agree|hold|match|"
    r"fit|satisfy)\b",
    r"\b(?:as|for) a (?:quick |sanity |final )?check\b|\b(?:in|"
    r"into) the original (?:equation|expression|problem)\b",
    r"\b(?:makes sense|run it forwards?|in the other order|to be (?:safe|sure)|just to be)\b",
    r"\bdifferentiat(?:e|ing) (?:our|the|this|it|that) (?:\w{1,14} ?)?(?:back|antiderivative|result|answer)?,?",
)
# What must follow an announcement.
CHECKED = rf"{EQUATION}|{GOOD}"
