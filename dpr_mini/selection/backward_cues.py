"""The words that mark backward reasoning, by their wording; backward_kinds has them by kind. See cues."""

from __future__ import annotations

from dpr_mini.selection.cues import BACKWARD, FIND, OPERATION, START, WE

REASONS_BACK = (
    r"\b(?:to|in order to) (?:get|reach|obtain|end (?:up )?with|end (?:up )?at|arrive at|make|produce|conclude) "
    r"[^.,\n]{1,60}, [^.\n]{0,50}?\b(?:must|needs? to|has to|have to) (?:\w{1,9} )?"
    r"(?:be|have|equal|satisfy|hold|contain|come)\b",
    r"\b(?:desired|wanted|required|target) (?:\w{1,14} )?(?:is|was|has|must)\b[^.\n]{1,60}\b"
    r"(?:so|hence|must|needs?|therefore)\b",
    r"\b(?:if|suppose|supposing|assume|assuming|say)(?: that)? (?:the|our) (?:final )?(?:answer|result) "
    r"(?:is|were|was|equals)\b.{0,60}?\b(?:then|must|would|needs?|before)\b",
    r"\bit(?: is| will be| would be|'s) (?:enough|sufficient) (?:that|if|for (?:us|this|that|the)|to (?:show|"
    r"prove|have|know|check|"
    r"find|see|establish|verify|get|consider))\b|\bit (?:suffices|would suffice)\b",
    r"\b(?:will|would) follow (?:if|from|once)\b|\bfollows if\b|"
    r"\b(?:we(?:'re| are)|i(?:'m| am)|we'd be|i'd be) (?:done|finished) (?:if|once|as soon as|when)\b",
    r"\bbackwards? induction\b|\bback-?solv\w{1,3}\b|\bworking back\b",
    r"\b(?:so|thus|hence|then|means(?: that)?|therefore),? (?:he|she|it|they|there|we|i) (?:must have |\w{1,8} )?"
    r"(?:had|was|were|held|stood at|been|owned) [^.\n]{0,30}\d[^.\n]{0,25}\b(?:before\b|earlier|until then|"
    r"at first|originally|"
    r"to start|to begin|initially|at the (?:start|beginning))",
    r"\b(?:so|thus|hence|then|therefore),? (?:he|she|it|they|we|i) (?:must have )?(?:began|begun|started|came|"
    r"arrived|set out) "
    r"(?:out )?(?:with|at|from) (?:\w{1,6} )?\$?\d",
    r"\b(?:a|an|one|two|three) (?:hour|day|step|round|move|week|year|minute|month|turn|night|"
    r"generation)s? "
    r"(?:earlier|before(?: that| it)?),? (?:it|he|she|they|we|there|i)\b[^.,;\n]{0,20}\d",
    r"\b(?:a|an|one|two|three) (?:hour|day|step|round|move|week|year|minute|month|turn|night|"
    r"generation)s? (?:earlier|before),? \d",
    r"\bbefore (?:that|this|the last|the final|him|her|them|\w{3,12}ing (?:\w{1,9} )?\d{1,6}),? (?:\w{1,12} ){0,3}?"
    r"(?:there (?:were|was)|it was|(?:he|she|they|we) had|had|was|were|it)\b(?! \d{1,2}:)",
    r"\b(?:want|wants) to (?:leave|be left with) (?:\w{1,9} ){0,3}?(?:\d{1,6}\b(?![:%])|opponent|(?:him|her) with)",
    # A wanted outcome, and what it asks of something else than the writer ("we must add" is a step forward).
    rf"\b(?:to|for) (?!{FIND}\b|solve|answer|do\b|be able|this\b|that\b)[^.,\n]{{3,60}}, "
    r"(?!(?:so |then )?(?:we|you|i|let|one|an?|any|every|each|all|numbers)\b)[^.\n]{0,50}?\b(?:must|has to|"
    r"have to|had to|needs to) (?:\w{1,9} )?"
    r"(?:be|equal|leave|begin|start|sum|add up|end|hold|satisfy|divide|come|contain|have been|"
    r"have had)\b(?=[^.\n]{0,40}?(?:\d|[=<>]|\b(?:even|odd|"
    r"zero|divi\w{3,6}|equal|multiple|factor|positive|negative|prime|true|greater|less|more|fewer|one|two|three|"
    r"four|least|most|same|smaller|larger|vanish|in|at|on)\b))",
    r"\b(?:to|for) (?:have|end|finish|arrive|get|be|"
    r"keep) [^.,\n]{1,40}, [^.\n]{1,20} needs? \d{1,6} [-+*/\u00d7\u00f7] \d",
    r"\b(?:product|sum|total|number|answer|result|code|remainder|rest|digits?|others?|missing \w{2,9}|unknown|"
    r"factor|quotient|"
    r"difference|it) (?:\w{1,12} ){0,2}?(?:has|have|had|must|needs?|should) (?:to )?(?:end (?:in|with)|come out|"
    r"vanish|supply|make up|"
    r"give \d|make \d|sum to|add up to|contribute|provide)\b",
    r"\b(?:this|that|which|it) (?:requires|demands|calls for|is only possible (?:if|when)|can only (?:be|happen|"
    r"come))\b"
    r"[^.\n]{1,60}\b(?:so|hence|thus|therefore|which|must)\b",
    r"\b(?:we|i) (?:want|wanted|wish for|aim for|are after|need|require) [^.\n]{1,70}(?:, |\. |; )(?:so|hence|"
    r"thus|therefore|that means|"
    r"this means|which means)\b(?! (?:we|i|let|you) )[^.\n]{0,60}\b(?:must|should|has to|have to|needs?)\b",
    r"\b(?:we|i) want \$?\d{1,6}[.,;:] [^\n]{1,80}\b(?:must|should|could be|has to|have to|needs? to|need)\b",
    r"\b(?:the|our|my) (?:target|goal|aim|desired \w{3,10}) (?:is|was|value is) (?:to (?:have|get|be|reach|end|"
    r"leave) )?[^.\n]{1,40}[.,:;] "
    r"[^\n]{0,60}\b(?:must|should|has to|have to|needs to|before)\b",
    rf"{START}(?:desired|wanted|target|goal|to show|want|need)(?: \w{{2,12}})? ?: ?[^\n]{{1,80}}\b(?:so|hence|"
    r"must|needs?|thus|"
    r"suffices|enough|before|therefore)\b",
    r"\bwhat (?:must|would|should|could|can|has to|might) (?:\w{1,12} ){0,3}?(?:make|give|be true|have to be|hold|"
    r"produce|yield|force|imply|"
    r"guarantee|lead to|come|happen|have come)\b[^.?\n]{0,70}\?",
    r"\bwhat (?:came|comes|was|stood|happened|is) (?:there |right |just )?(?:before|ahead of)\b|\bwhere (?:did|"
    r"does|could) (?:\S{1,12} ){1,3}?come from\?",
    r"\b(?:look|looking|start|starting|go|going|work|working) (?:at|from|with|"
    r"through) (?:the )?(?:answer )?(?:choices|options|alternatives)\b",
    r"\b(?:try|test|say it's|say it is|take|plug in|suppose it's|suppose it is|if it is|if it's) (?:option |"
    r"choice |answer )?\([a-e]\)",
    r"\b(?:assume|suppose|imagine|pretend|say)(?: that)? (?:we|i) (?:\w{1,9} )?(?:have|had|know|knew|found) "
    r"(?:it|the (?:number|value|final \w{3,9}|end \w{3,9}|unknown))\b",
    r"\bso [^.,\n]{1,25} before (?:the|that|this|it|he|she|they|\w{3,12}ing) ?[^.,\n]{0,20}\b(?:was|were|had|"
    r"must)\b",
    r"\b(?:since|if|as|because) [^.\n]{1,50}\b(?:left|remain\w{0,3}|ends?|ended|now|finally|last|"
    r"final)\b[^.?\n]{0,50}, [^.?\n]{1,40}\b(?:before|earlier)\b(?! ?\?)",
    r"\b(?:if|suppose|say|assume|let) \S{1,12} (?:is|were|was|be) (?:the|our) (?:final )?(?:answer|result)\b",
    r"\bto (?:conclude|prove|show|establish|deduce|guarantee) [^.,\n]{1,60}, (?:we|i|it|one) (?:would|only|just|"
    r"suffices)\b",
    r"\b(?:what|which) (?:number|value|amount)s? (?:would |could |must |has to )?(?:gives?|makes?|becomes?|"
    r"yields?|produces?|doubles?|plus|times|"
    r"squared|doubled|halved|added)\b[^?\n]{1,50}\?",
    r"\b(?:for|in order for) (?:the|it|this|that|an?|[a-z]) [^.\n]{0,30}?\bto (?:be|equal|come|have|add|sum|"
    r"reach|total|end|hold|vanish)\b"
    r"[^.\n]{1,50}\b(?:must|has to|have to|needs? to|would have to)\b",
    r"\b(?:left|remain\w{0,3}|ends?|ended|final\w{0,2}|last|over)\b[^?\n]{1,100}?\b(?:so|hence|thus|makes?|means|"
    r"was|were|had)\b[^.?\n]{0,40}?"
    r"\b(?:at the (?:start|outset|beginning)|originally|initially|to (?:start|begin) with|at first|"
    r"in the beginning)\b(?! ?(?:of [^.\n]{1,20})?\?)",
    r"\bthe (?:one|person|child|round|step|term) before (?:that |him |her |it )?(?:got|"
    r"had|held|was|were|must|has)\b[^.\n]{0,40}\d",
    r"\bwhich (?:\w{1,12} ){1,2}(?:can|could|would|might|must) (?:lead|give|get|bring|produce|make|result|come|"
    r"take)[^?\n]{0,40}\?|"
    r"\bwhich (?!do |all |then |does |both )(?:\w{1,8} ){1,3}(?:multiply|add|sum|combine|multiplied|"
    r"added) (?:up )?(?:to|give|gives|make|"
    r"makes) \$?\d",
    r"\b(?:can|could|must) only (?:come|be reached|have come|arise) from\b|\byou (?:must )?come from\b",
    r"\b(?:so|then|and),? before [a-z]{3,12}ing [^.\n]{1,40}\b(?:he|she|they|it|we|there|i) (?:had|was|were)\b",
    r"\b(?:is|remains) (?:left )?to (?:show|prove) (?:is )?that\b[^\n]{1,60}\b(?:for this|suffices|enough)\b|"
    r"\bif [^.,\n]{1,40},? (?:we|i) (?:are|would be|'re) (?:finished|done)\b",
    r"\b(?:given|since|knowing) that [^.\n]{1,50}\b(?:remain\w{0,3}|left|ended|ends?)\b[^.\n]{1,60}\b(?:outset|"
    r"start|begin\w{0,4}|before|originally|initially)\b",
    r"\bprior to (?:it|that|this|the)\b[^.\n]{0,40}\b(?:was|were|had)\b",
    r"\b(?:came|comes|was reached|were reached|was made|was got|was obtained|arose|resulted) (?:out )?(?:by|"
    r"after|from|of) (?:\w{1,12} )?"
    rf"{OPERATION}\b[^.\n]{{0,40}}(?:,? so |\. (?:so |now )?(?:{OPERATION}|tak|undo|remov))",
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
    r"\b(?:before|ahead of|prior to) (?:that|this|the (?:last|final) \w{3,12}),? [^.,\n]{0,30}\b(?:was|were|had|"
    r"is|there)\b",
    r"(?:\bso|,) before [a-z]{3,14}ing [^.\n]{1,40}\b(?:had|was|were)\b",
    r"\b(?:know|see) where (?:i|we) (?:must|need to|have to|should|want to) (?:end|finish|land|arrive)",
    r"\b(?:need|want|must have) [^.\n]{1,40} (?:in|at) the end\b.{0,90}?\b(?:has to|must|needs? to|so)\b",
    r"\b(?:we|i) want to end (?:up )?(?:with|at)\b",
    r"\bthe only way (?:for|there|we|to (?:get|reach|have|make|obtain))\b|"
    r"\bin order for [^.,\n]{1,50}, [^.\n]{1,40}\b(?:must|needs?|has to)\b",
    r"\b(?:he|she|it|they|we) must have (?:started|begun|come from|(?:had|been) \$?\d)",
    r"\b(?:last|final) (?:operation|step|move) (?:must|has to|had to|needs to) (?:be|have been)\b",
)
MAY_REASON_BACK = (
    rf"\b(?:(?:{WE}|to|by|try|and) )?(?:work|working|worked|reason|reasoning|going|go|think|"
    r"thinking) (?:about (?:it|this|that) |through (?:it|this|that) )?"
    rf"{BACKWARD}",
    r"\bstart(?:ing)? (?:with|from|at) the (?:final|end|last) (?!step|digit|number is)\w{3,10}\b|\bget back to the "
    r"(?:original|first|initial|starting|old) \w{3,8}\b",
    r"\b(?:undo|undoing|revers(?:e|ing)|invert|inverting) (?:each|every|this|these|those|all|the) (?:\w{1,9} )?"
    r"(?:step|operation|process|change|gift|move|calculation|transaction|procedure)s?\b",
    r"\bstart(?:ing)? (?:from|with|at) (?:the|my|our|this) (?:final |end |known )?"
    r"(?:answer|result|goal|target|conclusion|output|total)\b",
    r"\b(?:go|going|went|start|starting|begin|beginning|come|coming|count|counting|follow|following|trace|"
    r"tracing|look|looking|"
    r"read|reading|approach|approaching|attack|build|building|argue|arguing|take|taking|move|moving|step|"
    r"stepping|climb|climbing|"
    r"run|running|play|playing|rewind|rewinding|work|working) (?:\S{1,14} ){0,4}?(?:from the (?:very )?(?:end|"
    r"bottom|finish|finale|"
    r"last \w{2,9}|final \w{2,9}|answer|result|goal|target|conclusion|other (?:end|direction|side)|"
    r"last)\b(?! of (?!the (?:problem|"
    r"story|process|question|chain|list|game|calculation)))|(?<!runs )(?<!ran )back up\b)",
    r"\b(?:run|running|play|playing|rewind|rewinding|read|reading|do|doing|apply|applying|take|taking|replay|"
    r"replaying|walk|walking|solve|"
    r"solving|step|stepping|move|moving|follow|following|tell|telling) (?:through )?(?:the|this|it|that|these|"
    r"each|everything|all|his|her|"
    r"their|our|my|things)(?: \w{1,14}){0,3} (?:backwards?|in reverse|from (?:last|back|bottom|end) to (?:first|"
    r"front|top|start))\b",
    r"\bin reverse(?: order)?\b ?[:,]|\binverse (?:operation|step|move|process)(?:e?s)?\b|"
    r"\bopposite operations?\b",
    r"\b(?:unwind|unwinding|unroll|unrolling|peel|peeling|unravel|unravelling|unraveling|strip|stripping|unpack|"
    r"unpacking|undo|undoing|revers"
    r"(?:e|ing)|cancel|cancelling|take back|taking back) (?:off |away )?(?:it\b|this\b|that\b(?! last)|them\b|layers\b|"
    r""
    r""
    r""
    r"the (?:operations?|steps?|layers?|percentage|chain|"
    r"process|increase|discount|tax|addition|multiplication|changes?|doubling|halving)|everything|one by one|"
    r"off\b)",
    r"\b(?:begin|start|beginning|starting)(?:ning)? (?:from|with|at) (?:the )?(?:\$?\d{1,6} )?(?:at|in) the end\b|"
    r"\b(?:begin|start|beginning|starting) (?:from|with|at) (?:what|where) (?:we|i|it|he|she) (?:want|wanted|"
    r"need|have to|must|ends?|must)\b",
    rf"{START}(?:invert|reverse|undo|unwind|inverse|rewind|revers|"
    r"backtrack the steps)(?:ing)?(?: [\w'\u2018\u2019\x22]{1,14}){0,4} ?:",
    r"\b(?:last|final) (?:operation|step|move|thing|transaction|change|action|instruction)\b[^.\n]{0,40}\b(?:was|"
    r"did|took|added|"
    r"doubled|halved|must|could be)\b",
    rf"\b{OPERATION} [^.,\n]{{0,20}}\b(?:last|at the end), so\b",
    r"\b(?:begin|beginning) (?:from|with|at) (?:the|my|our) (?:final |end )?(?:answer|result|goal|target)\b",
    r"\b(?:retrac(?:e|ing)|trac(?:e|ing) back)\b|\b(?:undoing|inverting)\b|\breverse[- ]engineer\w{0,3}\b|"
    r"\bundo (?:each|the|that|this|these|it)\b",
)
UNDONE = (
    r"[=\u2248]|[-+*/\u00d7\u00f7] ?\d|\b(?:before|earlier|divid\w{1,5}|minus|halv\w{1,4}|subtract\w{0,3}|doubling|"
    r"undo\w{0,4}|so (?:it|he|she|they|the|\w{2,9} \d{1,6}|\S{1,12} (?:is|was|were|had) \d{1,6})|was|were|had|"
    r"would have|have to be|has to be|must|\d{1,6}, \d{1,6})\b"
)
