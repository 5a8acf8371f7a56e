"""The words that mark backtracking, by their wording; backtracking_kinds has them by kind. See cues."""

from __future__ import annotations

from dpr_mini.selection.cues import METHOD, START

OVER = r"(?:wait|no|nope|hmm+|but|oh|ah|ok|okay|well|so|hang on|hold on)"  # what a second thought begins with
MADE = (
    r"(?:added|multiplied|subtracted|divided|counted|wrote|read|treated|solved|computed|calculated|applied|copied|"
    r"assumed|doubled|halved|rounded|converted)"
)

BACKTRACKS = (
    r"\b(?:this|that|it|which)(?: is|'s) (?:definitely |clearly |also )?"
    r"(?:wrong(?! by)|incorrect|impossible(?! to)|absurd|nonsense|not (?:it\b|right|correct|possible(?! to)|our|"
    r"what (?:we|i|it|is|was|they|the))|no good|no use|a contradiction)\b",
    r"\b(?:this|that|it|which) (?:isn't (?:right|correct|possible)|does not work|doesn't work|did not work|"
    r"didn't work|contradicts|"
    r"(?:cannot|can't|could not|couldn't) be (?:right|correct|true|so)|leads to a contradiction|"
    r"(?:isn't|is not|wasn't|was not) (?:quite |really |exactly )?(?:right|it\b|what|helping|working|"
    r"possible(?! to)|true\b)|"
    r"(?:doesn't|does not|won't|will not|didn't|did not|can't|cannot) (?:seem to |quite |really |even )?"
    r"(?:add up|fit(?=[.,;:]| with| (?:the|our) (?:\w{1,9} )?(?:condition|data|equation|problem|given|total|sum|"
    r"clue))|help|lead|get us|go anywhere|agree|match)|"
    r"(?:disagrees|clashes|conflicts|is at odds|is inconsistent) (?:with )?|"
    r"(?:leads?|gets?|takes?|brings?) (?:us |me )?(?:\w{1,6} )?in (?:a )?circles?)",
    rf"\b{METHOD} (?:\w{{1,12}} )?(?:fails|failed|does not|doesn't|didn't|was wrong(?! by)|is wrong(?! by)|"
    r"is incorrect|"
    r"was incorrect|leads nowhere|is a dead end|is not|isn't|won't|will not|is out|is off|was off|was (?:false|"
    r"invalid|bad|no good)|overshoots?|"
    r"undershoots?|breaks down|is too \w{1,12})\b",
    r"\b\w{3,14} (?:on \w{1,9} )?(?:doesn't|does not|won't|will not|didn't|isn't|is not|can't) (?:seem to )?"
    r"(?:go anywhere|get (?:us|me) (?:any|very)\w{1,6}|lead anywhere|work (?:here|out|because|since|for)|"
    r"going to work)",
    r"\bdead end\b|\b(?:leads?|going|goes|gets?|getting) nowhere\b|\bmy (?:mistake|bad)\b|"
    r"\bbacktrack(?:ing)?\b(?! \w{3,9}er)",
    r"\b(?:scratch|scrap|strike|ignore|disregard|forget|cancel|never ?mind) (?:that|this|all that|"
    r"(?:the|my) (?:last|previous|above|first|line|step|part|earlier))\b(?! (?:the|he|she|it|they|we)\b)",
    rf"{START}(?:(?:correction|mistake|error)\b(?=:| ?-)|(?:oops|whoops|argh|ugh)\b(?!!? (?:\w{{1,12}} )?"
    r"(?:drops?|dropped|loses|lost|spills?|spilled|breaks?|broke)\b))",
    r"\b(?:spot|spotted|see|notice|found|find|locate|look(?:ing)? for|here is|here's|there's|there is|"
    r"there must be)"
    r" (?:now )?(?:the|my|an|a) (?:\w{1,12} )?(?:problem|issue|mistake|error|slip|flaw)\b(?! (?:asks|says|states|"
    r"wants|of))",
    r"\bwhere (?:did|have|do) (?:i|we|it) (?:go|went|gone|slip)|\bwent astray\b|\b(?:that|this|it|"
    r"which)(?: is|'s| was) (?:a |the )?wrong \w{3,10}\b",
    r"\boff by (?:a factor|one|two|1\b|10\b)|\b(?:was|were|is) (?:never|wrongly|mistakenly|accidentally) (?:carried|"
    r"subtracted|added|counted|included|applied)\b",
    r"\b(?:i|we) (?:\w{1,12} )?(?:accidentally|mistakenly|wrongly|erroneously|incorrectly|carelessly) \w{3,12}",
    rf"\b(?:i|we) (?:have |had |\w{{1,9}} )?{MADE} (?:[^.\n]|\.(?=\d)){{1,50}}?(?:,? but |,? (?:when|while|"
    r"where|although|though|yet) |"
    r"\. (?:but|that|it|this|they|however|in fact) )",
    r"\bi notice[d]?(?: that)? [^.\n]{1,40}\b(?:written|computed|added|counted|wrong|missing|twice|forgot\w{0,3}|"
    r"instead)\b",
    r"\b(?:wait|no|hmm+|but|oh|ah),? (?:\w{1,12},? ){0,3}?(?:counts?|counted|counting|included?|used|adds?|added|"
    r"doubles?|"
    r"misse[sd]|ignores?|includes) [^.\n]{1,30}\b(?:twice|double|already|too)\b",
    rf"{START}(?:{OVER}[,.! ]{{1,2}})?(?:on (?:reflection|second thoughts?|closer (?:look|inspection|reading))|"
    r"looking (?:at it )?again|reading (?:it |the \w{1,9} )?again|re-?reading)\b",
    rf"{START}(?:not quite|nope|not so fast|no good(?! \w)|no luck|never ?mind)\b(?! (?:all|half|as|so|enough|how|"
    r"which|what|\d))",
    rf"{START}(?:a )?(?:different|another|new|other|alternative|simpler|cleaner|easier|better|next) "
    r"(?:approach|idea|attempt|try|tack|route|strategy)\b ?[:,-]",
    r"\b(?:gets?|getting|becoming|becomes?|looks?|seems?|is|be|too) (?:\w{1,8} )?(?:complicated|messy|painful|"
    r"ugly|hairy|"
    r"tedious|unwieldy|cumbersome|long-winded|nasty|intractable)(?! \w)",
    r"\b(?:perhaps|maybe|surely|i think|isn't) (?:there(?:'s| is) )(?:an? |some )?(?:\w{1,9} )?"
    r"(?:easier|simpler|better|cleaner|quicker|smarter|other|different|another) way\b",
    r"\bi need to be (?:more )?careful ?[:.]|\bi (?:was|wasn't|were) (?:solving|finding|computing|answering|"
    r"looking|thinking|"
    r"counting|careful|using|supposed)\b",
    r"\b(?:what's|what is|what was|what) (?:really |actually )?(?:wanted|asked|needed|we want|they want) is\b",
    r"\b(?:try|trying|guess\w{0,3}|let me take|test|say|start with) [^.\n]{1,30}(?::|,|\.|gives?|makes?)"
    r"[^.\n]{1,40}\b(?:(?:less|more|greater|smaller|bigger|larger|lower|higher|fewer) than|over|under|above|"
    r"below|short of|not) "
    r"[^.\n]{1,25}\. ?(?:so |now |with|try|next|then |take|let|raise|lower)",
    r"\b(?:overshoots?|undershoots?|overshot|undershot)\b|(?:\b(?:is|are|gives|makes|be) |"
    r"= ?)\$?\d[\d.]{0,9}(?: \w{1,12})?, not \$?\d",
    r"\b(?:that's|that is|this is|it's|seems?|looks?) (?:rather |a bit |very |quite |really )?(?:strange|weird|"
    r"suspicious|fishy|off|wrong)\b"
    r"(?! by)|\b(?:seems?|looks?) (?:rather |very )?(?:odd|too \w{3,9})\b|\bsomething(?: is|'s| went| must be|"
    r" seems) (?:off|wrong|amiss|not right)\b",
    r"\b(?:this|that|it|which) (?:can't|cannot|couldn't) be(?= ?[,.;:!]| since| because)|"
    r"\blet me re-?read (?:the|what)\b",
    r"\b(?:but|however|though|yet),? (?:this|that|it|i|we)(?:'ve| have)? (?:also |still |then )?(?:ignores?d?|"
    r"miss(?:es|ed)|overlook(?:s|ed)|"
    r"neglects?|double[- ]counts?|leaves? out|left out|forgets?|disregards?|skips?|omits?)\b",
    rf"{START}rather, |\b(?:ah|oh|hmm+|hold on|wait|oh no|uh)[,.!\u2026]? but\b|\bbut (?:wait|hold on|"
    r"hang on|hmm)\b",
    r"\b(?:that|this|which|it) (?:would (?:be|make|give|mean|imply)|gives?|makes?|"
    r"is) (?:[\w']{1,12} ){0,4}?(?:negative|a fraction|fractional|"
    r"impossible|more than|less than|not (?:an? )?(?:integer|whole))\b[^.\n]{0,40}(?:, |\. |; )(?:so |but |"
    r"and )?(?:let me|let's|instead|i'll|"
    r"i swap|swap|try|we (?:swap|try|switch))\b",
    r"\bno (?:integer |real |such |valid )?(?:solutions?|luck|answer|way|pair|number|fit) (?:for|here|with|in|"
    r"there|exists?)\b[^.\n]{0,30}[.;,] "
    r"(?:so |now |then )?(?:mov|try|next|let|tak|switch|go|turn|consider|instead)",
    r"\b(?:ah|oh|er+|uh|um)\b[,.\u2026]{0,3} (?:no|sorry|\d)|\b(?:begin|start|do (?:it|this|that)) (?:anew|"
    r"afresh|from scratch|all over)\b|"
    r"\b(?:back up|step back|backtrack) (?:a|one|here|for)\b|\bredone\b|\b(?:i|we) keep (?:getting|ending|"
    r"running into|hitting|going in)\b",
    r"\b(?:doesn't|does not|don't|fails to|violates?|breaks?|contradicts?) (?:satisfy|meet|fulfil|match|the|our|"
    r"work)\b[^.\n]{0,40}\. "
    r"(?:so |then |hence |thus )?(?:take|try|the other|next|instead|let|we take|we try|\w must|it must|must)",
    r"\b(?:reach(?:ed)?|get|got|hit|run into|arrived? at|is|have) a contradiction\b[^\n]{0,50}\b(?:let's|let me|"
    r"take|try|consider|next|go on|turn)\b",
    r"\b(?:i|we)(?:'ve| have)? (?:been |must have |may have )?(?:\w{1,9} ){0,2}the wrong \w|\bi(?:'ve|"
    r" have) been \w{3,12}ing [^.\n]{1,30} as\b|"
    r"\b(?:i|we) must have (?:\w{1,9} )?(?:used|taken|read|counted|swapped|added|multiplied|made|gone|got|set|"
    r"put)\b",
    r"\b(?:would|will|could) take (?:forever|ages|far too|much too|too|very|hours)\b|\b(?:unjustified|unfounded|"
    r"not justified|can't assume|cannot assume|"
    r"no reason to (?:assume|think|believe)|doesn't say that)\b",
    rf"{START}not \$?\d[\d.,/]{{0,8}}[:,;!]|\b(?:is|are) what (?:they|it|the (?:question|problem)) (?:asks?|"
    r"wants?|is after|are after)\b",
    r"\b(?:guess|try|choice|idea|attempt|start) (?:was|is) (?:bad|poor|off|wrong(?! by)|too \w{1,8})\b|"
    r"\bhow about \$?\d",
    r"\d\? no way\b|\b(?:i|we) wrote \$?\d[\d.]{0,9}(?=[.;] )|\boh,? i see\b|= ?-?\d{1,6} (?:fails|failed|"
    r"doesn't work|does not work|"
    r"won't work|is out)\b|\bbut (?:that's|that is|this is|it's) (?:only |just )?(?:for|the|per|half|twice|without|"
    r"with|before|after)\b",
    r"\bmoving on to (?:the )?(?:next|other|odd|even|another|case)\b|\d\? (?:but|hmm+)\b|= ?\$?\d{1,6}\? no\b",
    r"\bi (?:now |just |only |then )?(?:realize|realise)[sd]?\b|\bnow i (?:see|realize|realise|notice)\b|"
    r"\b(?:turns out|it seems|i see)(?: that)? (?:i|we) "
    r"(?:had|have|was|were|did|used|took)\b|\b(?:i|we) [^.\n]{0,30}(?:upside down|the wrong way (?:a?round|up)|"
    r"in the wrong order)\b",
    r"\btoo (?:many|few|much|little|small|big|large|high|low|long|short|slow|fast)\b[^\n]{0,40}?(?:\. |; |, |"
    r": )(?:so |now |then )?(?:with|try|take|let|"
    r"use|instead|for|one more|next|lower|raise|go|since)\b",
    r"\b(?:let me|let's|i'll) (?:\w{1,9} )?(?:swap|switch|reverse) (?:the (?:roles|order|two|signs?|names)|them|"
    r"those)\b|\bapologies\b",
    r"\b(?:turn|switch|move|change) (?:over )?to (?:the )?(?:other|another|odd|even|a different|plan b)\b",
    r"\b(?:let me|let's|let us|we|i|i'll|must|should|to) (?:\w{1,12} )?(?:reconsider|rethink|redo|restart|"
    r"start (?:over|again)|"
    r"try (?:\w{1,9} )?again|re-?examine|recompute|recalculate|re-?think|re-?label|re-?calibrate|undo (?:that|"
    r"this|my|the last)|"
    r"revisit|take (?:that|this|it) back|(?:fix|correct|repair|amend|revise|(?<!we )(?<!can )rewrite|rework|"
    r"re-?derive) "
    r"(?:this|that|it|my|the (?:last|step|line|error|mistake|sign|previous)))\b|\bredoing\b",
    r"\b(?:let me|let's|i should|i must|i'd better) (?:\w{1,9} )?(?:recount|think (?:\w{1,12} )?again|look again|"
    r"read (?:\w{1,9} ){0,2}again)",
    r"(?<!if )\b(?:i|we) (?:have |had |also |just |must have |may have |might have |'ve )?(?:misread|misunderstood|"
    r"miscounted|"
    r"miscalculated|misinterpreted|misapplied|mistook|mixed (?:\w{1,9} )?up|confused|forgot(?! nothing)|"
    r"forgotten|left out|(?:missed|skipped|dropped|swapped) (?:(?:a|an|the|one|those|two|that|"
    r"this) (?:\w{1,9} )?(?:step|term|"
    r"sign|factor|case|digit|zero|condition|part|half|unit|number|value|price|name|role|side|minus)s?|it|them|that)\b|"
    r"(?:read|had|got|took|put) (?:it|this|that|the \w{1,12}) (?:the )?(?:wrong|backwards|upside)|"
    r"overlooked|neglected|(?:made|see|found) (?:a|an|the|my) (?:\w{1,12} )?(?:mistake|error|slip)|should have|"
    r"shouldn't have)\b",
    r"\bi (?:\w{1,12} )?(?:added|multiplied|subtracted|divided|counted|used) .{1,40}"
    r"(?:instead|twice|by mistake|where|rather than)\b",
    r"\b(?:try|use|take|consider|switch to|think of) (?:(?:another|a different|an alternative|"
    r"the other(?! (?:equation|number|value|solution|line|step|method))) "
    rf"(?:\w{{1,14}} )?(?:way|pair|case|route|tack|factori[sz]ation|number|{METHOD})|(?:the )?other case)\b",
    r"\b(?:so|let's|let me|we|i) (?:\w{1,9} )?(?:try|use|take|go for|go with|turn to) (?:the|a|an|induction|\w \+) "
    r"[^.\n]{1,40} (?:after all|this time|now)\b",
    r"\binstead,? (?:try|use|let|consider|take|we|i)\b|\b(?:try|use|consider|take) .{1,30} instead\b(?! of)",
    r"\b(?:a )?better (?:idea|way|approach|choice) (?:is|would|might)\b",
    r"\btoo (?:small|big|large|high|low|messy|long|complicated)\b.{0,60}?\b(?:try|"
    r"instead|drop|switch|abandon|so let)\b",
    r"\b(?:we|i|i'll|let's|let me|therefore) (?:\w{1,12} )?(?:abandon|discard|give up on|drop(?! (?:an?|the|"
    r"another) (?:perpendicular|altitude|height|line)| perpendiculars| altitudes))\b",
    r"\b(?:makes no sense|(?:does not|doesn't|cannot|can't) make sense)\b",
    r"\bwhich i (?:ignored|forgot|missed|overlooked|neglected|left out)\b|\bwould take too long\b",
    r"\bmy first (?:thought|idea|attempt|guess|instinct|try) (?:was|is)\b|\bsorry, (?:that|it|i|this)\b",
    r"\b(?:went|go|gone|going) wrong\b|\bi was wrong\b|\bthink again\b",
    r"\bshould (?:be|have been) [^.,\n]{1,25},? (?:not (?!counting|including)|instead of|rather than)",
    rf"{START}(?:(?:so|ok|okay|going|returning),? )?back to (?:the|my|our|where|an) (?!(?:\w{{1,9}} )?(?:equations?|"
    r"problem|question|expression|formula|sum|total|task|story|triangle|"
    rf"inequality)\b)(?:\w{{1,12}} ?){{1,2}}[:,.]|"
    rf"{START}(?:going|back|returning) to (?:the|my|our|where|an) (?!(?:\w{{1,9}} )?(?:equations?|problem|question|"
    r"expression|formula|sum|total|task|story|triangle|inequality)\b)",
    r"(?:\bso|[.,;\u2026]) ?no, (?:that|it|this|i|\S{1,12} [-+*/=])",
    # An answer to the writer's own statement, not to a question, a quoted remark or "no, thank you".
    r"(?:(?<=[.;!\u2026]) |(?<=^)|(?<=\d\? )(?<!is \d\? )(?<!is \d\d\? )(?<!an \d\d\? ))(?:(?:hmm+|oh|wait|well|"
    r"actually)[,.\u2026]{0,3} )?"
    r"(?:no[,.\u2026!](?! ?(?:thank|sir|problem|need|more|(?:he|she|they) (?:is|was|are|do|did|has|have|"
    r"does)(?:n't)?)\b)|no no\b|nope\b|no wait\b)",
    r"[a-z\d)][,;\u2026.]{1,3} (?:no no\b|er,|i mean|sorry,|or rather|make that)",
    r"\b(?:wait|no|nope|hmm+|oh),? [^.\n]{0,40}\b(?:question|problem|task|exercise|text) (?:asks|says|wants|"
    r"states|gave|said|asked)\b",
)
MAY_BACKTRACK = (
    rf"(?:{START}|[,\u2026] ?|\b(?:but|oh|hmm+|ah|no|ok|actually),? )(?:no )?"
    r"(?:(?:wait|hold on|hang on)(?:,? (?:a|one) (?:minute|second|moment|sec))?"
    r"|hmm+(?=[^\n]{0,90}?(?:\b(?:no|not|but|again|instead|wrong|only|actually|twice|however|disagrees?|odd|"
    r"strange|wait|"
    r"yes)\b|n't\b|\btoo \w)|\? \d))(?:,|!|;|:|\?|"
    r"\.\.\.|\u2026| ?[\u2014-]|\. (?=[a-z\d])| )"
    r"(?! ?(?:(?:let me|let's|i should|i need to|we should) (?:\w{1,9} )?"
    r"(?:check|verify|confirm|see|test|make sure|count|compute)\b|times?\b|for\b|"
    r"until\b|list|a (?:moment|minute)|\d{1,4} (?:second|minute|hour|day|week|month|year)|to\b|at\b|in\b|"
    r"(?:that|this|it) (?:was|is) (?:quick|easy|nice|fun|great|fast|good|interesting|simple|neat)|"
    r"the answer (?!should|is not|isn't|can't|cannot|must)|nice\b|ok|interesting|is \S{1,8} right|so (?:we|"
    r"i) (?:want|need|have)))",
    rf"{START}actually,",
    r"\b(?:let me|let's|let us|we|i|i'll|must|should) (?:go|step|went) back\b(?! (?:from|home|by|\d))",
)
CORRECTED = r"\w[^\n]{7}|\n[^\n]{0,4}\w[^\n]{7}"
