"""Marker counts for the four behaviours of arXiv 2503.01307 ("Four Habits"): local, free, regular expressions.

    verification   tests an own result or step against the conditions, a known value, a small case or the equation
    backtracking   sees that a path fails and goes back to correct it or to try another
    subgoals       splits the task into named intermediate goals
    backward       starts from the goal or the answer and works toward the givens

The paper uses an LLM judge; we use regular expressions for explicit markers. Some words are enough alone ("I made a
mistake"). Others only announce ("let me check", "wait", "working backward"): they count where an act follows within
REACH characters, and not where all that follows is an equation the text already had. Behaviour without such words is
missed. bench/behaviours.py measures precision and recall on tests/data/behaviours.jsonl. Compare shares between models
under one counter only.
"""

from __future__ import annotations

import re

NAMES = ("verification", "backtracking", "subgoals", "backward")
REACH = 200
JOINED = 4  # characters between two cues below which they are one: "Wait, let me go back"
LONGEST = 200_000
"""Characters of a text that are read: some 50 thousand tokens, so that a runaway file costs bounded time."""

# Parts of cues. Every repetition is bounded, so a search is linear in the text.
_START = r"(?:^|(?<=[.!?:>)\n]) {0,2})[^\w\n]{0,6}"  # of a line or a sentence; list marks and bold may stand before it
_WE = r"(?:let me|let us|let's|lets|we|we can|we could|we should|we must|i|i can|i could|i should|i must|i will|i'll)"
_FIND = (
    r"(?:find|calculate|compute|determine|work out|figure out|solve|express|show|prove|establish|evaluate|simplify|"
    r"isolate|convert|identify|count|derive|set up|get|know|obtain|substitute|list)"
)
_DO = rf"(?:{_FIND}|(?:subtract|add|multiply|divide|halve) (?!\d))"  # such a goal only as an entry of a list
_QUANTITY = (
    r"(?:value|number|total|cost|price|sum|length|width|height|area|volume|perimeter|radius|slope|determinant|trace|"
    r"distance|time|speed|rate|amount|profit|average|difference|ratio|probability|denominator|numerator)"
)
_METHOD = (
    r"(?:approach|method|attempt|idea|guess|assumption|path|strategy|choice|substitution|formula|step|answer|result|"
    r"calculation|reasoning|equation|value|solution|line)"
)
_BACKWARD = r"(?:backwards?|in reverse|from the (?:end|answer|final answer|result|goal)\b|back from)"
_EQUATION = r"\d ?[-+*/\u00d7\u00f7^] ?\d|\d[^\w\n]{0,4}[=\u2248]|[=\u2248][^\w\n]{0,4}\d"
_GOOD = (
    r"\b(?:correct|matches|match|holds?|works?|agrees?|satisf\w{1,6}|consistent|divisible|fits?|equal|"
    r"as required|gives? \$?\d)\b"
)

_ENOUGH = {
    "verification": (
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
    ),
    "backtracking": (
        r"\b(?:this|that|it|which)(?: is|'s) (?:definitely |clearly |also )?"
        r"(?:wrong(?! by)|incorrect|impossible|not (?:it\b|right|correct|possible|our|what we)|a contradiction)\b",
        r"\b(?:this|that|it|which) (?:isn't (?:right|correct|possible)|does not work|doesn't work|contradicts|"
        r"(?:cannot|can't|could not|couldn't) be (?:right|correct|true|so)|leads to a contradiction)\b",
        rf"\b{_METHOD} (?:\w{{1,12}} )?(?:fails|failed|does not|doesn't|didn't|was wrong|is wrong|is incorrect|"
        r"was incorrect|leads nowhere|is a dead end)\b",
        r"\bdead end\b|\b(?:leads?|going|goes) nowhere\b|\bscratch that\b|\bmy (?:mistake|bad)\b|\bbacktrack\w{0,3}\b",
        rf"{_START}(?:(?:correction|mistake|error)\b(?=:| ?-)|oops\b|whoops\b)",
        r"\b(?:let me|let's|let us|we|i|i'll|must|should|to) (?:\w{1,12} )?(?:reconsider|rethink|redo|start over|"
        r"try again|re-?examine|recompute|recalculate|fix (?:this|that|it))\b|\bredoing\b",
        r"\bi (?:have |had |also |just )?(?:misread|misunderstood|miscounted|miscalculated|mixed up|confused|forgot|"
        r"overlooked|neglected|(?:made|see|found) (?:a|an|the|my) (?:\w{1,12} )?(?:mistake|error|slip)|should have)\b",
        r"\bi (?:\w{1,12} )?(?:added|multiplied|subtracted|divided|counted|used) .{1,40}"
        r"(?:instead|twice|by mistake|where|rather than)\b",
        r"\b(?:try|use|take|consider|switch to|think of) (?:(?:another|a different|an alternative|the other) "
        rf"(?:\w{{1,14}} )?(?:way|pair|case|route|tack|factori[sz]ation|number|{_METHOD})|(?:the )?other case)\b",
        r"\binstead,? (?:try|use|let|consider|take)\b|\b(?:try|use|consider|take) .{1,30} instead\b",
        r"\b(?:a )?better (?:idea|way|approach|choice) (?:is|would|might)\b",
        r"\btoo (?:small|big|large|high|low|messy|long|complicated)\b.{0,60}?\b(?:try|"
        r"instead|drop|switch|abandon|so let)\b",
        r"\b(?:we|i|i'll|let's|let me|therefore) (?:\w{1,12} )?(?:abandon|discard|give up on|drop)\b",
        r"\b(?:makes no sense|(?:does not|doesn't|cannot|can't) make sense)\b",
        r"\bwhich i (?:ignored|forgot|missed|overlooked|neglected|left out)\b|\bwould take too long\b",
        r"\bmy first (?:thought|idea|attempt|guess|instinct|try) (?:was|is)\b|\bsorry, (?:that|it|i|this)\b",
        r"\b(?:went|go) wrong\b|\bi was wrong\b|\bon second thought\b|\bstrike that\b|\bthink again\b",
        r"\bshould (?:be|have been) [^.,\n]{1,25},? (?:not (?!counting|including)|instead of|rather than)",
        rf"{_START}(?:going|back|returning) to (?:the|my|our|where|an) ",
        r"(?:\bso|[.,;\u2026]) ?no, (?:that|it|this|i|\S{1,12} [-+*/=])",
    ),
    "subgoals": (
        rf"{_START}(?:step|part|goal|subgoal|sub-goal|case|stage) ?(?:\d{{1,2}}|one|two|three|four)\*{{0,2}} ?"
        r"[:.)\u2013\u2014-][\s*]{0,4}(?=[a-z]{2})",
        rf"^[^\w\n]{{0,4}}\d{{1,2}}[.)] {{0,2}}\*{{0,2}}{_DO}|^[*#]{{2,5}} ?{_DO}",
        rf"(?:{_START}|\b)(?:first|firstly|next|then|finally|second|secondly|third|thirdly|lastly|now),? "
        rf"(?:{_WE} |you )(?:will |now |first |then |also )?(?:(?:need|have|want) (?:to )?|must |should )?{_FIND}\b",
        rf"{_START}(?:first|firstly|second|secondly|lastly),? (?:to )?{_FIND}\b|\b{_WE} first {_FIND}\b",
        r"\b(?:break|split|divide|decompose|separate)(?:ing)? (?:this|it|the (?:problem|task|trip|question|expression|"
        r"sum|figure|shape|calculation|proof|journey|region|work)|things|"
        r"everything) (?:\w{1,12} )?(?:down|up|into)\b(?!\W{0,3}(?:as )?\d)",
        r"\b(?:we|i|proof|problem|solution|question|task|argument|this|it) (?:will )?(?:needs?|has|have|requires?|"
        r"consists of|comes in|falls into|splits into) (?:two|three|four|several) (?:\w{1,12} )?"
        r"(?:things|parts|steps|stages|cases|goals|quantities|pieces|claims|results|facts)\b",
        rf"\b{_WE} (?:start|begin) with the (?!(?:\w{{1,12}} )?(?:answer|result|goal|end|target|conclusion|output)\b)",
        r"\bfirst,? the [^.,\n]{1,40}, (?:and )?then the\b|\bnext up\b|\boutline (?:the|my|our|a) \w",
        rf"\b(?:we|i)(?:'ll| will)? (?:also |first |now )?(?:need|want) (?:to know )?the {_QUANTITY}\b",
        rf"^[^\w\n]{{0,4}}(?:[a-d]\) )?(?:the )?{_QUANTITY}\b[\w ]{{0,30}}: (?=[^\n]{{1,40}}=)",
        r"\b(?:our|my|the) (?:task|job|goal|aim) (?:now )?is to\b|\b(?:helps?|useful|good) to know the\b",
        r"\bsub-?(?:problems?|tasks?|questions?)\b",
        r"\b(?:the|our|my) (?:first|next|second|third|final|last|main|intermediate|immediate) "
        r"(?:step|goal|subgoal|sub-goal|part|task|objective|aim)(?: is| will be|:)",
        rf"\b(?:to|before) (?:{_WE} )?(?:can )?{_FIND} [^.\n]{{1,60}}, (?:{_WE}|you) (?:\w{{1,12}} )?"
        rf"(?:(?:need|have) (?!to\b)|(?:need to|must|have to) (?:first )?(?={_FIND})|{_FIND}\b)",
        rf"\b(?:{_WE} )(?:\w{{1,9}} )?(?:start|begin) (?:by|with) (?:finding|{_FIND}\w{{0,3}}ing|computing|calculating|"
        r"determining|solving|evaluating)\b",
        r"\b(?:tackle|handle|deal with|treat|consider|take|do|compute|evaluate) (?:[\w']{1,12} ){1,3}"
        r"(?:first\b|separately|one by one|one at a time|in turn)",
        rf"{_START}(?:plan|strategy|outline|roadmap|sub-?goals?|steps)\*{{0,2}} ?:",
        r"\b(?:my|our|the) (?:plan|strategy|game plan) (?:is|will be|here|would be)\b",
        r"\bhere(?:'s| is) (?:my|our|the|a) (?:plan|strategy|outline)\b|\b(?:in|"
        r"into) (?:two|three|four) (?:steps|stages)\b",
        rf"\bthe first thing (?:{_WE}|to)\b|\bonce {_WE} (?:have|know|find) [^.\n]{{1,40}}, {_WE} \w",
        r"\b(?:reduces|boils down|comes down) to (?:finding|computing|showing|counting|proving|solving)\b",
    ),
    "backward": (
        r"\b(?:to|in order to) (?:get|reach|obtain|end (?:up )?with|end (?:up )?at|arrive at|make|produce|conclude) "
        r"[^.,\n]{1,60}, [^.\n]{0,50}?\b(?:must|needs? to|has to|have to) (?:\w{1,9} )?"
        r"(?:be|have|equal|satisfy|hold|contain|come)\b",
        r"\b(?:desired|wanted|required|target) (?:\w{1,14} )?(?:is|was|has|must)\b[^.\n]{1,60}\b"
        r"(?:so|hence|must|needs?|therefore)\b",
        r"\b(?:if|suppose|supposing|assume|assuming|say)(?: that)? (?:the|our) (?:final )?(?:answer|result) "
        r"(?:is|were|was|equals)\b.{0,60}?\b(?:then|must|would|needs?|before)\b",
        r"\bit (?:is|will be|would be|'s) (?:enough|sufficient) (?:to|that|if|for)\b|\bit's (?:enough|sufficient)\b",
        r"\b(?:will|would) follow (?:if|from|once)\b|\bfollows if\b",
        r"\bwhat (?:must|would|should) (?:we|i|\w{1,12}) (?:need|have|be|have to)\b.{0,60}\?",
        r"\bwhat do (?:we|i) need (?:in order|for (?:this|that|it)|to (?:have|conclude|reach|show|prove|end))\b",
        r"\b(?:would be|is) implied by\b|\bhow (?:could|can|might) (?:we|i|one) (?:get|reach|"
        r"arrive at|end)\b[^.\n]{1,40}\?",
        r"\bfor [^.,\n]{1,30} to (?:be|come|equal|hold|"
        r"end)\b[^.,\n]{0,25}, [^.\n]{1,20}(?:would need|must|needs|has to)\b",
        r"\bmust have (?:been )?\$?\d[^.,\n]{0,12},? (?:because|since|(?:just|right) before)\b|\bright before that\b",
        r"\b(?:has|have|needs?) to look like\b|\bthe (?:opposite|reverse) (?:direction|order|way)\b[^.\n]{0,4}[:,=]",
        r"\btrace (?:it|this|that) (?:back )?to\b",
        r"\bin order to [^.,\n]{1,40},? (?:we|i|one) (?:need|must)s?\b[^.\n]{1,40}\bto be\b",
        r"\b(?:he|she|it|they|there|we) (?:had|was|were) [^.,\n]{1,20} before(?=[.,;])",
        r"\b(?:so|hence|thus|therefore),? (?:\w{1,12} ){1,2}(?:started|began) (?:with|at|from|out with) \$?\d",
        r"\bfinal (?:amount|number|value|total|height|count) (?:is|"
        r"was) [^.\n]{1,60}\bso\b[^.\n]{0,30}\b(?:was|had|were)\b",
        r"\b(?:would|will|'d) be (?:done|finished) (?:if|once)\b|\bthis is (?:the case|true) (?:when|if|as soon as)\b",
        r"\b(?:imagine|suppose|assume|pretend)(?: that)? (?:we|i) (?:already )?(?:have|had|know|"
        r"knew) the (?:answer|solution|"
        r"result)\b|\b(?:our|the|my) (?:aim|goal|target) is [^.\n]{1,60}\. (?:to (?:have|get)|for) that\b",
        r"\b(?:in turn (?:needs|requires)|(?:this|that) forces)\b|\bfor that (?:we|i|it) need",
        r"\b(?:must|has to|needs to) be \S{1,12} (?:for|if) (?:the|it|this|that)\b",
        r"\bfor \S{1,14} to be [^.,\n]{1,40}? (?:we|i) (?:need|must)\b",
        r"\bbefore that,? [^.,\n]{0,30}\b(?:was|were|had|is|there)\b",
        r"(?:\bso|,) before [a-z]{3,14}ing [^.\n]{1,40}\b(?:had|was|were)\b",
        r"\b(?:know|see) where (?:i|we) (?:must|need to|have to|should|want to) (?:end|finish|land|arrive)",
        r"\b(?:need|want|must have) [^.\n]{1,40} (?:in|at) the end\b.{0,90}?\b(?:has to|must|needs? to|so)\b",
        r"\b(?:we|i) want to end (?:up )?(?:with|at)\b",
        r"\bthe only way (?:for|there|we|to (?:get|reach|have|make|obtain))\b|"
        r"\bin order for [^.,\n]{1,50}, [^.\n]{1,40}\b(?:must|needs?|has to)\b",
        r"\b(?:he|she|it|they|we) must have (?:started|begun|come from|(?:had|been) \$?\d)",
        r"\b(?:last|final) (?:operation|step|move) (?:must|has to|had to|needs to) (?:be|have been)\b",
    ),
}

# Cue, and what must follow it within REACH characters.
_CHECKED = rf"{_EQUATION}|{_GOOD}"
_UNDONE = (
    r"[=\u2248]|[-+*/\u00d7\u00f7] ?\d|\b(?:before|divid\w{1,5}|minus|halv\w{1,4}|"
    r"undo\w{0,4}|so (?:it|he|she|they|the))\b"
)
_CORRECTED = r"\w[^\n]{7}|\n[^\n]{0,4}\w[^\n]{7}"
_ANNOUNCED = {
    "verification": (
        rf"(?:{_START}|\b)(?:(?:{_WE}|to|now|and|then|also|"
        rf"please) (?:\w{{1,12}} )?(?:verify|double[- ]?check|re-?check|"
        r"cross[- ]?check|see (?:if|whether) (?:this|that|it|our)|check|test|confirm|recount|make sure|"
        r"validate)\b(?! (?:off|out|in|for|their)\b))",
        rf"{_START}(?:verify|verifying|verification|check|checking|double-check(?:ing)?|"
        rf"confirm|confirming|test|testing|"
        r"sanity check|proof check)(?:\*\*)? ?(?::|\b(?=,| (?:this|that|the|my|our|each|whether|if|by|with|it|n|x)\b))",
        r"\b(?:substitut|plugg?|put)(?:e|ing|ting|s)? (?:\S{1,20} ){0,4}?back\b",
        r"\b(?:is|are) (?:\S{1,12} )?(?:right|correct)\?|"
        r"\bdoes (?!not)(?:\S{1,12} ){1,2}(?:make sense|work|agree|hold|match|"
        r"fit|satisfy)\b",
        r"\b(?:as|for) a (?:quick |sanity |final )?check\b|\b(?:in|"
        r"into) the original (?:equation|expression|problem)\b",
        r"\b(?:makes sense|run it forwards?|in the other order|to be (?:safe|sure)|just to be)\b",
        r"\bdifferentiat(?:e|ing) (?:our|the|this|it|that) (?:\w{1,14} ?)?(?:back|antiderivative|result|answer)?,?",
    ),
    "backtracking": (
        rf"(?:{_START}|[,\u2026] ?|\bbut )(?:no )?(?:wait|hold on|hang on|hmm+)(?:,|!|;|:|"
        rf"\.\.\.|\u2026| ?[\u2014-]|\. (?=[a-z])| )"
        r"(?! ?(?:(?:let me|let's|i should|i need to|we should) (?:\w{1,9} )?"
        r"(?:check|verify|confirm|see|test|make sure|count|compute)\b|times?\b|for\b|"
        r"until\b|list|a (?:moment|minute)|\d{1,4} (?:second|minute|hour|day|week|month|year)|"
        r"the answer\b|nice\b|ok|interesting|is \S{1,8} right))",
        rf"{_START}actually,",
        r"\b(?:let me|let's|let us|we|i|i'll|must|should) (?:go|step|went) back\b",
    ),
    "backward": (
        rf"\b(?:(?:{_WE}|to|by|try|and) )?(?:work|working|worked|reason|reasoning|going|go|think|thinking) {_BACKWARD}",
        r"\b(?:undo|undoing|revers(?:e|ing)|invert|inverting) (?:each|every|this|these|those|all|the) (?:\w{1,9} )?"
        r"(?:step|operation|process|change|gift|move|calculation|transaction|procedure)s?\b",
        r"\bstart(?:ing)? (?:from|with|at) (?:the|my|our|this) (?:final |end |known )?"
        r"(?:answer|result|goal|target|conclusion|output|total)\b",
        r"\b(?:begin|beginning) (?:from|with|at) (?:the|my|our) (?:final |end )?(?:answer|result|goal|target)\b",
        r"\b(?:retrac(?:e|ing)|trac(?:e|ing) back)\b|\b(?:undoing|inverting)\b|\breverse[- ]engineer\w{0,3}\b|"
        r"\bundo (?:each|the|that|this|these|it)\b",
    ),
}
_ACTS = {
    name: re.compile(act)
    for name, act in (("verification", _CHECKED), ("backtracking", _CORRECTED), ("backward", _UNDONE))
}
_ALONE = {name: re.compile("|".join(cues), re.M) for name, cues in _ENOUGH.items()}
_LOOSE = {name: re.compile("|".join(cues), re.M) for name, cues in _ANNOUNCED.items()}
_PIECES = re.compile(r"(?<=[.!?])\s|\n|:\s")
# A bare number, "the answer is 7", or one more announcement. What the text had before, word for word, is hollow too.
_HOLLOW = re.compile(
    r"\W{0,3}[\d.,$ ]{0,20}\W{0,3}$|(?:so |thus |hence |therefore,? )?(?:the |"
    r"my )?(?:final )?answer (?:to .{1,60} )?is\b.{0,30}$|"
    r"(?:and |so |to solve this problem,? )?(?:wait,? )?(?:let me|let's|let us|i'll|i will|we can|we) (?:\w{1,9} )?"
    r"(?:go back|check|verify|double|confirm|test|see|work|try|redo|start|split|think|look)\b[\w' ]{0,40}$|"
    r"(?:wait|working|step by step|check(?:ing)?|verif\w{1,8})\b[\w ]{0,20}$",
)


def count(text: str) -> dict[str, int]:
    """Markers of each behaviour in the first LONGEST characters (keys: NAMES); two that touch count once."""
    text = text[:LONGEST].lower()  # far quicker than a search that ignores case
    return {name: _count(name, text) for name in NAMES}


def _count(name: str, text: str) -> int:
    spans = [m.span() for m in _ALONE[name].finditer(text)]
    if name in _LOOSE:
        spans += [m.span() for m in _LOOSE[name].finditer(text) if _acted(name, text, m.end())]
    found, end = 0, -JOINED
    for start, stop in sorted(spans):
        found += start >= end + JOINED
        end = max(end, stop)
    return found


def _acted(name: str, text: str, end: int) -> bool:
    """Whether what follows an announcement that ends at `end` holds an act, once the hollow pieces are out."""
    before = text[max(0, end - 10 * REACH) : end]
    pieces = (p.strip(" \t.,;!*") for p in _PIECES.split(text[end : end + REACH]))
    return bool(_ACTS[name].search("\n".join(p for p in pieces if p not in before and not _HOLLOW.match(p))))
