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
    r"(?:approach|method|claim|conjecture|attempt|idea|guess|assumption|path|strategy|choice|substitution|formula|step|answer|result|"
    r"calculation|reasoning|equation|value|solution|line)"
)
_BACKWARD = r"(?:backwards?|in reverse|from the (?:end|answer|final answer|result|goal)\b|back from)"
_OVER = r"(?:wait|no|nope|hmm+|but|oh|ah|ok|okay|well|so|hang on|hold on)"  # what a second thought begins with
_MADE = (
    r"(?:added|multiplied|subtracted|divided|counted|wrote|read|treated|solved|computed|calculated|applied|copied|"
    r"assumed|doubled|halved|rounded|converted)"
)
_OPERATION = r"(?:add|subtract|multipl|divid|doubl|halv|tripl|squar|cub)\w{1,5}"
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
        r"(?:wrong(?! by)|incorrect|impossible(?! to)|absurd|nonsense|not (?:it\b|right|correct|possible(?! to)|our|"
        r"what (?:we|i|it|is|was|they|the))|no good|no use|a contradiction)\b",
        r"\b(?:this|that|it|which) (?:isn't (?:right|correct|possible)|does not work|doesn't work|contradicts|"
        r"(?:cannot|can't|could not|couldn't) be (?:right|correct|true|so)|leads to a contradiction|"
        r"(?:isn't|is not|wasn't|was not) (?:quite |really |exactly )?(?:right|it\b|what|helping|working|possible(?! to)|true\b)|"
        r"(?:doesn't|does not|won't|will not|didn't|did not|can't|cannot) (?:seem to |quite |really |even )?"
        r"(?:add up|fit(?=[.,;:]| with| (?:the|our) (?:\w{1,9} )?(?:condition|data|equation|problem|given|total|sum|clue))|help|lead|get us|go anywhere|agree|match)|"
        r"(?:disagrees|clashes|conflicts|is at odds|is inconsistent) (?:with )?|"
        r"(?:leads?|gets?|takes?|brings?) (?:us |me )?(?:\w{1,6} )?in (?:a )?circles?)",
        rf"\b{_METHOD} (?:\w{{1,12}} )?(?:fails|failed|does not|doesn't|didn't|was wrong(?! by)|is wrong(?! by)|is incorrect|"
        r"was incorrect|leads nowhere|is a dead end|is not|isn't|won't|will not|is out|is off|was off|was (?:false|invalid|bad|no good)|overshoots?|"
        r"undershoots?|breaks down|is too \w{1,12})\b",
        r"\b\w{3,14} (?:on \w{1,9} )?(?:doesn't|does not|won't|will not|didn't|isn't|is not|can't) (?:seem to )?"
        r"(?:go anywhere|get (?:us|me) (?:any|very)\w{1,6}|lead anywhere|work (?:here|out|because|since|for)|going to work)",
        r"\bdead end\b|\b(?:leads?|going|goes|gets?|getting) nowhere\b|\bmy (?:mistake|bad)\b|\bbacktrack(?:ing)?\b(?! \w{3,9}er)",
        r"\b(?:scratch|scrap|strike|ignore|disregard|forget|cancel|never ?mind) (?:that|this|all that|"
        r"(?:the|my) (?:last|previous|above|first|line|step|part|earlier))\b(?! (?:the|he|she|it|they|we)\b)",
        rf"{_START}(?:(?:correction|mistake|error)\b(?=:| ?-)|(?:oops|whoops|argh|ugh)\b(?!!? (?:\w{{1,12}} )?"
        r"(?:drops?|dropped|loses|lost|spills?|spilled|breaks?|broke)\b))",
        r"\b(?:spot|spotted|see|notice|found|find|locate|look(?:ing)? for|here is|here's|there's|there is|there must be)"
        r" (?:now )?(?:the|my|an|a) (?:\w{1,12} )?(?:problem|issue|mistake|error|slip|flaw)\b(?! (?:asks|says|states|wants|of))",
        r"\bwhere (?:did|have|do) (?:i|we|it) (?:go|went|gone|slip)|\bwent (?:astray|off)\b|\b(?:that|this|it|which)(?: is|'s| was) (?:a |the )?wrong \w{3,10}\b",
        r"\boff by (?:a factor|one|two|1\b|10\b)|\b(?:was|were|is) (?:never|wrongly|mistakenly|accidentally|not) (?:carried|"
        r"subtracted|added|counted|included|applied)\b",
        rf"\b(?:i|we) (?:\w{{1,12}} )?(?:accidentally|mistakenly|wrongly|erroneously|incorrectly|carelessly) \w{{3,12}}",
        rf"\b(?:i|we) (?:have |had |\w{{1,9}} )?{_MADE} (?:[^.\n]|\.(?=\d)){{1,50}}?(?:,? but |,? (?:when|while|where|although|though|yet) |"
        r"\. (?:but|that|it|this|they|however|in fact) )",
        r"\bi notice[d]?(?: that)? [^.\n]{1,40}\b(?:written|computed|added|counted|wrong|missing|twice|forgot\w{0,3}|instead)\b",
        rf"\b{_OVER},? (?:\w{{1,12}},? ){{0,3}}?(?:counts?|counted|counting|included?|used|adds?|added|doubles?|"
        r"misse[sd]|ignores?|includes) [^.\n]{1,30}\b(?:twice|double|already|too)\b",
        rf"{_START}(?:{_OVER}[,.! ]{{1,2}})?(?:on (?:reflection|second thoughts?|closer (?:look|inspection|reading))|"
        r"looking (?:at it )?again|reading (?:it |the \w{1,9} )?again|re-?reading)\b",
        rf"{_START}(?:not quite|nope|not so fast|no good|no luck|never ?mind)\b(?! (?:all|half|as|so|enough|how|which|what|\d))",
        rf"{_START}(?:a )?(?:different|another|new|other|alternative|simpler|cleaner|easier|better|next) "
        r"(?:approach|idea|attempt|try|tack|route|strategy)\b ?[:,-]",
        r"\b(?:gets?|getting|becoming|becomes?|looks?|seems?|is|be|too) (?:\w{1,8} )?(?:complicated|messy|painful|ugly|hairy|"
        r"tedious|unwieldy|cumbersome|long-winded|nasty|intractable)\b",
        r"\b(?:perhaps|maybe|surely|i think|isn't) (?:there(?:'s| is) )(?:an? |some )?(?:\w{1,9} )?"
        r"(?:easier|simpler|better|cleaner|quicker|smarter|other|different|another) way\b",
        r"\bi need to be (?:more )?careful ?[:.]|\bi (?:was|wasn't|were) (?:solving|finding|computing|answering|looking|thinking|"
        r"counting|careful|using|supposed)\b",
        r"\b(?:what's|what is|what was|what) (?:really |actually )?(?:wanted|asked|needed|we want|they want) is\b",
        rf"\b(?:try|trying|guess\w{{0,3}}|let me take|test|say|start with|take|for) [^.\n]{{1,30}}(?::|,|\.|gives?|makes?)"
        r"[^.\n]{1,40}\b(?:(?:less|more|greater|smaller|bigger|larger|lower|higher|fewer) than|over|under|above|below|short of|not) "
        r"[^.\n]{1,25}\. ?(?:so |now |with|try|next|then |take|let|raise|lower|one |and |how |what )",
        r"\b(?:overshoots?|undershoots?|overshot|undershot)\b|(?:\b(?:is|are|gives|makes|be) |= ?)\$?\d[\d.]{0,9}(?: \w{1,12})?, not \$?\d",
        r"\b(?:that's|that is|this is|it's|seems?|looks?) (?:rather |a bit |very |quite |really )?(?:strange|weird|suspicious|fishy|off|wrong)\b"
        r"(?! by)|\b(?:seems?|looks?) (?:rather |very )?(?:odd|too \w{3,9})\b|\bsomething(?: is|'s| went| must be| seems) (?:off|wrong|amiss|not right)\b",
        r"\b(?:this|that|it|which) (?:can't|cannot|couldn't) be(?= ?[,.;:!]| since| because)|\blet me re-?read (?:the|what)\b",
        r"\b(?:but|however|though|yet),? (?:this|that|it|i|we)(?:'ve| have)? (?:also |still |then )?(?:ignores?d?|miss(?:es|ed)|overlook(?:s|ed)|"
        r"neglects?|double[- ]counts?|leaves? out|left out|forgets?|disregards?|skips?|omits?)\b",
        rf"{_START}rather, |\b(?:ah|oh|hmm+|hold on|well|wait|oh no|uh)[,.!\u2026]? but\b|\bbut (?:wait|hold on|hang on|hmm)\b",
        r"\b(?:that|this|which|it) (?:would (?:be|make|give|mean|imply)|gives?|makes?|is) (?:[\w']{1,12} ){0,4}?(?:negative|a fraction|fractional|"
        r"impossible|more than|less than|not (?:an? )?(?:integer|whole))\b[^.\n]{0,40}(?:, |\. |; )(?:so |but |and )?(?:let me|let's|instead|i'll|"
        r"i swap|swap|try|we (?:swap|try|switch))\b",
        r"\bno (?:integer |real |such |valid )?(?:solutions?|luck|answer|way|pair|number|fit) (?:for|here|with|in|there|exists?)\b[^.\n]{0,30}[.;,] "
        r"(?:so |now |then )?(?:mov|try|next|let|tak|switch|go|turn|consider|instead)",
        r"\b(?:ah|oh|er+|uh|um)\b[,.\u2026]{0,3} (?:no|sorry|\d)|\b(?:begin|start|do (?:it|this|that)) (?:anew|afresh|from scratch|all over)\b|"
        r"\b(?:back up|step back|backtrack|rewind) (?:a|one|to|and|here|for)\b|\bredone\b|\bkeep (?:getting|ending|running|hitting|going)\b",
        r"\b(?:doesn't|does not|don't|fails to|violates?|breaks?|contradicts?) (?:satisfy|meet|fulfil|match|the|our|work)\b[^.\n]{0,40}\. "
        r"(?:so |then |hence |thus )?(?:take|try|the other|next|instead|let|we take|we try|\w must|it must|must)",
        r"\b(?:reach(?:ed)?|get|got|hit|run into|arrived? at|is|have) a contradiction\b[^\n]{0,50}\b(?:let's|let me|take|try|consider|next|go on|turn)\b",
        r"\b(?:i|we)(?:'ve| have)? (?:been |must have |may have )?(?:\w{1,9} ){0,2}the wrong \w|\bi(?:'ve| have) been \w{3,12}ing [^.\n]{1,30} as\b|"
        r"\b(?:i|we) must have (?:\w{1,9} )?(?:used|taken|read|counted|swapped|added|multiplied|made|gone|got|set|put)\b",
        r"\b(?:would|will|could) take (?:forever|ages|far too|much too|too|very|hours)\b|\b(?:unjustified|unfounded|not justified|can't assume|cannot assume|"
        r"no reason to (?:assume|think|believe)|doesn't say that)\b",
        rf"{_START}not \$?\d[\d.,/]{{0,8}}[:,;!]|\b(?:is|are) what (?:they|it|the (?:question|problem)) (?:asks?|wants?|is after|are after)\b",
        r"\b(?:guess|try|choice|idea|attempt|start) (?:was|is) (?:bad|poor|off|wrong(?! by)|too \w{1,8})\b|\bhow about \$?\d",
        r"\bmoving on to (?:the )?(?:next|other|odd|even|another|case)\b|\d\? (?:but|hmm+)\b|= ?\$?\d{1,6}\? no\b",
        r"\bi (?:now |just |only |then )?(?:realize|realise)[sd]?\b|\bnow i (?:see|realize|realise|notice)\b|\b(?:turns out|it seems|i see)(?: that)? (?:i|we) "
        r"(?:had|have|was|were|did|used|took)\b|\b(?:upside down|the wrong way (?:a?round|up)|in the wrong order)\b",
        r"\btoo (?:many|few|much|little|small|big|large|high|low|long|short|slow|fast)\b[^\n]{0,40}?(?:\. |; |, |: )(?:so |now |then )?(?:with|try|take|let|"
        r"use|instead|for|one more|next|lower|raise|go|since)\b",
        r"\b(?:let me|let's|i'll) (?:\w{1,9} )?(?:swap|switch|reverse) (?:the (?:roles|order|two|signs?|names)|them|those)\b|\bapologies\b",
        r"\b(?:turn|switch|move|change|go) (?:over )?to (?:the )?(?:other|another|odd|even|a different|plan b)\b",
        r"\b(?:let me|let's|let us|we|i|i'll|must|should|to) (?:\w{1,12} )?(?:reconsider|rethink|redo|restart|start (?:over|again)|"
        r"try (?:\w{1,9} )?again|re-?examine|recompute|recalculate|re-?think|re-?label|re-?calibrate|undo (?:that|this|my|the last)|"
        r"revisit|take (?:that|this|it) back|(?:fix|correct|repair|amend|revise|rewrite|rework|re-?derive) "
        r"(?:this|that|it|my|the (?:last|step|line|error|mistake|sign|previous)))\b|\bredoing\b",
        r"\b(?:let me|let's|i should|i must|i'd better) (?:\w{1,9} )?(?:recount|think (?:\w{1,12} )?again|look again|read (?:\w{1,9} ){0,2}again)",
        r"\b(?:i|we) (?:have |had |also |just |must have |may have |might have |'ve )?(?:misread|misunderstood|miscounted|"
        r"miscalculated|misinterpreted|misapplied|mistook|mixed (?:\w{1,9} )?up|swapped|confused|forgot(?! nothing)|forgotten|left out|missed|"
        r"skipped|dropped|(?:read|had|got|took|put) (?:it|this|that|the \w{1,12}) (?:the )?(?:wrong|backwards|upside)|"
        r"overlooked|neglected|(?:made|see|found) (?:a|an|the|my) (?:\w{1,12} )?(?:mistake|error|slip)|should have|"
        r"shouldn't have)\b",
        r"\bi (?:\w{1,12} )?(?:added|multiplied|subtracted|divided|counted|used) .{1,40}"
        r"(?:instead|twice|by mistake|where|rather than)\b",
        r"\b(?:try|use|take|consider|switch to|think of) (?:(?:another|a different|an alternative|the other(?! (?:equation|number|value|solution|line|step))) "
        rf"(?:\w{{1,14}} )?(?:way|pair|case|route|tack|factori[sz]ation|number|{_METHOD})|(?:the )?other case)\b",
        r"\b(?:so|let's|let me|we|i) (?:\w{1,9} )?(?:try|use|take|go for|go with|turn to) (?:the|a|an|induction|\w \+) "
        r"[^.\n]{1,40} (?:after all|this time|now)\b",
        r"\binstead,? (?:try|use|let|consider|take|we|i)\b|\b(?:try|use|consider|take) .{1,30} instead\b",
        r"\b(?:a )?better (?:idea|way|approach|choice) (?:is|would|might)\b",
        r"\btoo (?:small|big|large|high|low|messy|long|complicated)\b.{0,60}?\b(?:try|"
        r"instead|drop|switch|abandon|so let)\b",
        r"\b(?:we|i|i'll|let's|let me|therefore) (?:\w{1,12} )?(?:abandon|discard|give up on|drop)\b",
        r"\b(?:makes no sense|(?:does not|doesn't|cannot|can't) make sense)\b",
        r"\bwhich i (?:ignored|forgot|missed|overlooked|neglected|left out)\b|\bwould take too long\b",
        r"\bmy first (?:thought|idea|attempt|guess|instinct|try) (?:was|is)\b|\bsorry, (?:that|it|i|this)\b",
        r"\b(?:went|go) wrong\b|\bi was wrong\b|\bthink again\b",
        r"\bshould (?:be|have been) [^.,\n]{1,25},? (?:not (?!counting|including)|instead of|rather than)",
        rf"{_START}(?:(?:so|ok|okay|going|returning),? )?back to (?:the|my|our|where|an) (?:\w{{1,12}} ?){{1,2}}[:,.]|"
        rf"{_START}(?:going|back|returning) to (?:the|my|our|where|an) ",
        r"(?:\bso|[.,;\u2026]) ?no, (?:that|it|this|i|\S{1,12} [-+*/=])",
        # An answer to the writer's own statement, not to a question, a quoted remark or "no, thank you".
        r"(?:(?<=[.;!\u2026]) |(?<=^)|(?<=\d\? )(?<!is \d\? )(?<!is \d\d\? )(?<!an \d\d\? ))(?:(?:hmm+|oh|wait|well|actually)[,.\u2026]{0,3} )?"
        r"(?:no[,.\u2026!](?! ?(?:thank|sir|problem|need|more)\b)|no no\b|nope\b|no wait\b)",
        r"[a-z\d)][,;\u2026.]{1,3} (?:no no\b|er,|i mean|sorry,|or rather|make that)",
        rf"\b(?:wait|no|nope|hmm+|oh),? [^.\n]{{0,40}}\b(?:question|problem|task|exercise|text) (?:asks|says|wants|states|gave|said|asked)\b",
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
        r"\bit(?: is| will be| would be|'s) (?:enough|sufficient) (?:that|if|for (?:us|this|that|the)|to (?:show|prove|have|know|check|"
        r"find|see|establish|verify|get|consider))\b|\bit (?:suffices|would suffice)\b",
        r"\b(?:will|would) follow (?:if|from|once)\b|\bfollows if\b|"
        r"\b(?:we(?:'re| are)|i(?:'m| am)|we'd be|i'd be) (?:done|finished) (?:if|once|as soon as|when)\b",
        r"\bbackwards? induction\b|\bback-?solv\w{1,3}\b|\bworking back\b",
        r"\b(?:so|thus|hence|then|means(?: that)?|therefore),? (?:he|she|it|they|there|we|i) (?:must have |\w{1,8} )?"
        r"(?:had|was|were|held|stood at|been|owned) [^.\n]{0,30}\d[^.\n]{0,25}\b(?:before\b|earlier|until then|at first|originally|"
        r"to start|to begin|initially|at the (?:start|beginning))",
        r"\b(?:so|thus|hence|then|therefore),? (?:he|she|it|they|we|i) (?:must have )?(?:began|begun|started|came|arrived|set out) "
        r"(?:out )?(?:with|at|from) (?:\w{1,6} )?\$?\d",
        r"\b(?:a|an|one|two|three|each|the) (?:hour|day|step|round|move|week|year|minute|month|turn|night|generation)s? "
        r"(?:earlier|before(?: that| it)?),? (?:it|he|she|they|we|there|i)\b[^.,;\n]{0,20}\d",
        r"\b(?:a|an|one|two|three) (?:hour|day|step|round|move|week|year|minute|month|turn|night|generation)s? (?:earlier|before),? \d",
        r"\bbefore (?:that|this|the last|the final|him|her|them|\w{3,12}ing (?:\w{1,9} )?\d{1,6}),? (?:\w{1,12} ){0,3}?"
        r"(?:there (?:were|was)|it was|(?:he|she|they|we) had|had|was|were|it)\b(?! \d{1,2}:)",
        r"\b(?:want|wants) to (?:leave|be left with) (?:\w{1,9} ){0,3}?(?:\d{1,6}\b(?!:)|opponent|(?:him|her) with)",
        # A wanted outcome, and what it asks of something else than the writer ("we must add" is a step forward).
        rf"\b(?:to|for) (?!{_FIND}\b|solve|answer|do\b|be able|this\b|that\b)[^.,\n]{{3,60}}, "
        r"(?!(?:so |then )?(?:we|you|i|let|one|an?|any|every|each|all|numbers)\b)[^.\n]{0,50}?\b(?:must|has to|have to|had to|needs to) (?:\w{1,9} )?"
        r"(?:be|equal|leave|begin|start|sum|add up|end|hold|satisfy|divide|come|contain|have been|have had)\b(?=[^.\n]{0,40}?(?:\d|[=<>]|\b(?:even|odd|"
        r"zero|divi\w{3,6}|equal|multiple|factor|positive|negative|prime|true|greater|less|more|fewer|one|two|three|four|least|most|same|smaller|larger|vanish|in|at|on)\b))",
        r"\b(?:to|for) (?:have|end|finish|arrive|get|be|keep) [^.,\n]{1,40}, [^.\n]{1,20} needs? \d{1,6} [-+*/\u00d7\u00f7] \d",
        r"\b(?:product|sum|total|number|answer|result|code|remainder|rest|digits?|others?|missing \w{2,9}|unknown|factor|quotient|"
        r"difference|it) (?:\w{1,12} ){0,2}?(?:has|have|had|must|needs?|should) (?:to )?(?:end (?:in|with)|come out|vanish|supply|make up|"
        r"give \d|make \d|sum to|add up to|contribute|provide)\b",
        r"\b(?:this|that|which|it) (?:requires|demands|calls for|is only possible (?:if|when)|can only (?:be|happen|come))\b"
        r"[^.\n]{1,60}\b(?:so|hence|thus|therefore|which|must)\b",
        r"\b(?:we|i) (?:want|wanted|wish for|aim for|are after|need|require) [^.\n]{1,70}(?:, |\. |; )(?:so|hence|thus|therefore|that means|"
        r"this means|which means)\b(?! (?:we|i|let|you) )[^.\n]{0,60}\b(?:must|should|has to|have to|needs?)\b",
        r"\b(?:we|i) want \$?\d{1,6}[.,;:] [^\n]{1,80}\b(?:must|should|could be|has to|have to|needs? to|need)\b",
        r"\b(?:the|our|my) (?:target|goal|aim|desired \w{3,10}) (?:is|was|value is) (?:to (?:have|get|be|reach|end|leave) )?[^.\n]{1,40}[.,:;] "
        r"[^\n]{0,60}\b(?:must|should|has to|have to|needs to|before)\b",
        rf"{_START}(?:desired|wanted|target|goal|to show|want|need)(?: \w{{2,12}})? ?: ?[^\n]{{1,80}}\b(?:so|hence|must|needs?|thus|"
        r"suffices|enough|before|therefore)\b",
        r"\bwhat (?:must|would|should|could|can|has to|might) (?:\w{1,12} ){0,3}?(?:make|give|be true|be|hold|have|produce|yield|force|imply|"
        r"guarantee|lead to|come|happen|have come)\b[^.?\n]{0,70}\?",
        r"\bwhat (?:came|comes|was|stood|happened|is) (?:there |right |just )?(?:before|ahead of)\b|\bwhere (?:did|does|could) (?:\S{1,12} ){1,3}?come from\?",
        r"\b(?:look|looking|start|starting|go|going|work|working) (?:at|from|with|through) (?:the )?(?:answer )?(?:choices|options|alternatives)\b",
        r"\b(?:try|test|say it's|say it is|take|plug in|suppose it's|suppose it is|if it is|if it's) (?:option |choice |answer )?\([a-e]\)",
        r"\b(?:assume|suppose|imagine|pretend|say)(?: that)? (?:we|i) (?:\w{1,9} )?(?:have|had|know|knew|found) "
        r"(?:it|the (?:number|value|final \w{3,9}|end \w{3,9}|unknown))\b",
        r"\bso [^.,\n]{1,25} before (?:the|that|this|it|he|she|they|\w{3,12}ing) ?[^.,\n]{0,20}\b(?:was|were|had|must)\b",
        r"\b(?:since|if|as|because) [^.\n]{1,50}\b(?:left|remain\w{0,3}|ends?|ended|now|finally|last|final)\b[^.\n]{0,50}, [^.\n]{1,40}\b(?:before|earlier)\b",
        r"\b(?:if|suppose|say|assume|let) \S{1,12} (?:is|were|was|be) (?:the|our) (?:final )?(?:answer|result)\b",
        r"\bto (?:conclude|prove|show|establish|deduce|guarantee) [^.,\n]{1,60}, (?:we|i|it|one) (?:would|only|just|suffices)\b",
        r"\b(?:what|which) (?:number|value|amount)s? (?:would |could |must |has to )?(?:gives?|makes?|becomes?|yields?|produces?|doubles?|plus|times|"
        r"squared|doubled|halved|added)\b[^?\n]{1,50}\?",
        r"\b(?:for|in order for) (?:the|it|this|that|an?|[a-z]) [^.\n]{0,30}?\bto (?:be|equal|come|have|add|sum|reach|total|end|hold|vanish)\b"
        r"[^.\n]{1,50}\b(?:must|has to|have to|needs? to|would have to)\b",
        r"\b(?:left|remain\w{0,3}|ends?|ended|final\w{0,2}|last|over)\b[^\n]{1,100}?\b(?:so|hence|thus|makes?|means|was|were|had)\b[^.\n]{0,40}?"
        r"\b(?:at the (?:start|outset|beginning)|originally|initially|to (?:start|begin) with|at first|in the beginning)\b",
        r"\bthe (?:one|day|week|person|child|round|step|month|year|term|night) before (?:that |him |her |it )?(?:got|had|held|was|were|must|has)\b[^.\n]{0,40}\d",
        r"\bwhich (?:\w{1,12} ){1,2}(?:can|could|would|might|must) (?:lead|give|get|bring|produce|make|result|come|take)[^?\n]{0,40}\?|"
        r"\bwhich (?:\w{1,8} ){1,3}(?:multiply|add|sum|combine|multiplied|added) (?:up )?(?:to|give|gives|make|makes) \$?\d",
        r"\b(?:can|could|must) only (?:come|be reached|have come|arise) from\b|\byou (?:must )?come from\b",
        r"\b(?:so|then|and),? before [a-z]{3,12}ing [^.\n]{1,40}\b(?:he|she|they|it|we|there|i) (?:had|was|were)\b",
        r"\b(?:is|remains) (?:left )?to (?:show|prove) (?:is )?that\b[^\n]{1,60}\b(?:for this|suffices|enough)\b|\bif [^.,\n]{1,40},? (?:we|i) (?:are|would be|'re) (?:finished|done)\b",
        r"\b(?:given|since|knowing) that [^.\n]{1,50}\b(?:remain\w{0,3}|left|ended|ends?)\b[^.\n]{1,60}\b(?:outset|start|begin\w{0,4}|before|originally|initially)\b",
        r"\bprior to (?:it|that|this|the)\b[^.\n]{0,40}\b(?:was|were|had)\b",
        rf"\b(?:came|comes|was reached|were reached|was made|was got|was obtained|arose|resulted) (?:out )?(?:by|after|from|of) (?:\w{{1,12}} )?"
        rf"{_OPERATION}\b[^.\n]{{0,40}}(?:,? so |\. (?:so |now )?(?:{_OPERATION}|tak|undo|remov))",
        r"\blet (?:the|our) (?:final |end )?(?:answer|result|final number|final value) be (?:[b-z]\b|a[.,;:])",
        r"\bis \d{1,3} ?% of (?:the|its|what) (?:original|full|first|initial|old|whole|start)|"
        r"\bis \d{1,3} ?%,? (?:and|so|hence) (?:the|its) (?:original|full|first|initial|old|whole|start)",
        r"\b(?:the (?:other|opposite|reverse) way (?:a?round|about)|from the (?:other|opposite) end)\b",
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
        r"\b(?:he|she|it|they|there|we) (?:had|was|were) [^.,\n]{1,20} before(?=[.;]|,(?! and))",
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
        r"\b(?:before|ahead of|prior to) (?:that|this|the (?:last|final) \w{3,12}),? [^.,\n]{0,30}\b(?:was|were|had|is|there)\b",
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
    r"[=\u2248]|[-+*/\u00d7\u00f7] ?\d|\b(?:before|earlier|divid\w{1,5}|minus|halv\w{1,4}|subtract\w{0,3}|doubling|"
    r"undo\w{0,4}|so (?:it|he|she|they|the|\w{2,9} \d{1,6}))\b"
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
        rf"(?:{_START}|[,\u2026] ?|\b(?:but|oh|hmm+|ah|no|ok|actually),? )(?:no )?"
        r"(?:(?:wait|hold on|hang on)(?:,? (?:a|one) (?:minute|second|moment|sec))?"
        r"|hmm+(?=[^\n]{0,90}?(?:\b(?:no|not|but|again|instead|wrong|only|actually|twice|however|disagrees?|odd|strange|wait|"
        r"yes)\b|n't\b|\btoo \w)|\? \d))(?:,|!|;|:|\?|"
        rf"\.\.\.|\u2026| ?[\u2014-]|\. (?=[a-z\d])| )"
        r"(?! ?(?:(?:let me|let's|i should|i need to|we should) (?:\w{1,9} )?"
        r"(?:check|verify|confirm|see|test|make sure|count|compute)\b|times?\b|for\b|"
        r"until\b|list|a (?:moment|minute)|\d{1,4} (?:second|minute|hour|day|week|month|year)|to\b|at\b|in\b|"
        r"(?:that|this|it) (?:was|is) (?:quick|easy|nice|fun|great|fast|good|interesting|simple|neat)|"
        r"the answer (?!should|is not|isn't|can't|cannot|must)|nice\b|ok|interesting|is \S{1,8} right|so (?:we|i) (?:want|need|have)))",
        rf"{_START}actually,",
        r"\b(?:let me|let's|let us|we|i|i'll|must|should) (?:go|step|went) back\b(?! (?:from|home|by|\d))",
    ),
    "backward": (
        rf"\b(?:(?:{_WE}|to|by|try|and) )?(?:work|working|worked|reason|reasoning|going|go|think|thinking) {_BACKWARD}",
        r"\b(?:undo|undoing|revers(?:e|ing)|invert|inverting) (?:each|every|this|these|those|all|the) (?:\w{1,9} )?"
        r"(?:step|operation|process|change|gift|move|calculation|transaction|procedure)s?\b",
        r"\bstart(?:ing)? (?:from|with|at) (?:the|my|our|this) (?:final |end |known )?"
        r"(?:answer|result|goal|target|conclusion|output|total)\b",
        rf"\b(?:go|going|went|start|starting|begin|beginning|come|coming|count|counting|follow|following|trace|tracing|look|looking|"
        r"read|reading|approach|approaching|attack|build|building|argue|arguing|take|taking|move|moving|step|stepping|climb|climbing|"
        r"run|running|play|playing|rewind|rewinding|work|working) (?:\S{1,14} ){0,4}?(?:from the (?:very )?(?:end|bottom|finish|finale|"
        r"last \w{2,9}|final \w{2,9}|answer|result|goal|target|conclusion|other (?:end|direction|side)|last)\b(?! of (?!the (?:problem|"
        r"story|process|question|chain|list|game|calculation)))|(?<!runs )(?<!ran )back up\b)",
        r"\b(?:run|running|play|playing|rewind|rewinding|read|reading|do|doing|apply|applying|take|taking|replay|replaying|walk|walking|solve|"
        r"solving|step|stepping|move|moving|follow|following|tell|telling) (?:through )?(?:the|this|it|that|these|each|everything|all|his|her|"
        r"their|our|my|things)(?: \w{1,14}){0,3} (?:backwards?|in reverse|from (?:last|back|bottom|end) to (?:first|front|top|start))\b",
        rf"\bin reverse(?: order)?\b ?[:,]|\binverse (?:operation|step|function|move|process)s?\b|\bopposite operations?\b",
        r"\b(?:unwind|unwinding|unroll|unrolling|peel|peeling|unravel|unravelling|unraveling|strip|stripping|unpack|unpacking|undo|undoing|revers"
        r"(?:e|ing)|cancel|cancelling|take back|taking back) (?:off |away )?(?:it\b|this\b|that\b|them\b|the (?:operations?|steps?|layers?|percentage|chain|"
        r"process|increase|discount|tax|addition|multiplication|changes?|doubling|halving)|everything|one by one|off\b)",
        r"\b(?:begin|start|beginning|starting)(?:ning)? (?:from|with|at) (?:the )?(?:\$?\d{1,6} )?(?:at|in) the end\b|"
        r"\b(?:begin|start|beginning|starting) (?:from|with|at) (?:what|where) (?:we|i|it|he|she) (?:want|wanted|need|have to|must|ends?|must)\b",
        rf"{_START}(?:invert|reverse|undo|unwind|inverse|rewind|revers|backtrack the steps)(?:ing)?(?: [\w'\u2018\u2019\x22]{{1,14}}){{0,4}} ?:",
        rf"\b(?:last|final) (?:operation|step|move|thing|transaction|change|action|instruction)\b[^.\n]{{0,40}}\b(?:was|did|took|added|"
        r"doubled|halved|must|could be)\b",
        rf"\b{_OPERATION} [^.,\n]{{0,20}}\b(?:last|at the end), so\b",
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
