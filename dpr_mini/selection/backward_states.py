"""Backward reasoning by kind, second part: states from the last to the first, and what must hold for a goal to hold.

The words for turning a process round and for the state before are in backward_kinds.
"""

from __future__ import annotations

from itertools import pairwise

from dpr_mini.selection.backward_kinds import EVENT, NUMBER

_ORDINAL = (("fifth", "fourth"), ("fourth", "third"), ("third", "second"), ("second", "first"))
_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
# Two dated states, the later one first: "day three: 14; day two: 11".
_STEPS = ("five|5|fifth", "four|4|fourth", "three|3|third", "two|2|second", "one|1|first")
_DATED = (
    *(
        rf"\b(?:the )?{a} (?!place|prize|and|or|of all|grade|floor|angle|equation|expression|condition|yields|gives|"
        rf"term\b)[^?\n]{{1,90}}?(?:\bso\b|\bhence\b|must|before|"
        rf"[:;])[^?\n]{{0,40}}?\d[^?\n]{{0,60}}?\b(?:the )?{b}\b(?! (?:place|prize|half|term|angle|side|equation|"
        r"expression|condition))"
        r"[^?\n]{1,60}?\d"
        for a, b in _ORDINAL
    ),
    *(
        r"\b(?:day|week|year|month|hour|round|stage|step|level|minute|night|turn|move|"
        rf"game) (?:{a})\b[^?\n]{{1,70}}?\b(?:day|week|year|month|hour|round|stage|step|level|minute|night|turn|"
        rf"move|game) (?:{b})\b[^?\n]{{0,25}}\d"
        for a, b in pairwise(_STEPS)
    ),
    *(
        rf"\b{b}\b[^?\n]{{1,80}}?\d[^?\n]{{0,50}}?(?:\bso|\bmust|\bhence|:) ?(?:on )?{a}\b[^?\n]{{0,40}}\d"
        for a, b in pairwise(_DAYS)
    ),
    *(
        rf"\bat {a}(?::00)? ?(?:pm|am|"
        rf"o'clock)?\b[^?\n]{{1,50}}?\bat {a - 1}(?::00)? ?(?:pm|am|o'clock)?\b[^?\n]{{0,50}}\d"
        for a in range(12, 1, -1)
    ),
)
REASONS_BACK = (
    *_DATED,
    rf"\b(?:a|one|1) {EVENT.replace('day|', 'day|decade|century|')} ago\b[^?\n]{{0,50}}?\d[^?\n]{{0,30}}?\b(?:two|2|"
    rf"three|3) {EVENT.replace('day|', 'day|decade|century|')}s ago\b",
    # From an arrival to the time of leaving.
    r"\b(?:arriv\w{2,3}|got (?:home|there|in)|gets? (?:home|there|in)|ends?|ended|finish\w{0,3}|over at|landed|lands|"
    r"reach\w{0,3}|shows?|is due|back at|returned|rings|rang)\b[^?\n]{0,30}?(?:\d{1,2}:\d\d|\bnoon|midnight|"
    r"\d ?(?:pm|am)|at \d)[^?\n]{1,100}?"
    r"\b(?:(?:so|hence|means|must have|meaning|which|he|she|they|it|and)\b[^?.\n]{0,25}?\b(?:leaving|left|"
    r"set (?:off|out)|started|starts|began|begun|begins|departed|departs|woke|wound|went in|took off|starting|"
    r"beginning|leave|start|put in|switched on))\b[^?.\n]{0,15}\d",
    r"\b[a-e] (?:ends?|finish\w{0,3}|arrives?) at \d{1,2}(?::\d\d)?,? so [a-e] (?:at|by) \d",
    # Where a number came from, and where that one did; arrows and lines read upwards.
    r"(?P<n>\b\d{1,7})(?: [a-z]{1,12})?[,.;:] (?:and |then |so |while )?(?:the |that |"
    r"those )?(?P=n) (?:[a-z]{1,12} )?(?:was|were|came|comes?|had been|itself|in turn|arose|is what|"
    r"is the result|results?|resulted)\b",
    r"\b\d{1,7}(?: \w{1,12})? (?:was|is|were) (?:just )?(?:doubled|halved|tripled|squared|made|got|gotten|obtained|"
    r"formed|increased|decreased|reduced|multiplied|divided|grown) from \d",
    r"\d ?(?:\u2190| <- |\\leftarrow|\\gets) ?\d|\b(?:the )?(?:one|line|step|row|equation) (?:above|before|"
    r"over) (?:that|it|this)? ?(?:was|were|is|must|had|read|would|,)\b[^.\n]{0,30}(?:\d|=)|\b(?:line|one|"
    r"row) above (?:that|it|was|is)\b",
    r"\b(?:move|step|operation|rule|jump|edge|map|button|press)s? (?:that|which) (?:brought|took|got|led|leads?|"
    r"gets|gave|made|produced|turned|takes?|brings?) [^.\n]{0,20}\b(?:there|here|it|this|that|us|to|him|her)\b",
    r"\b(?:so|hence|thus|making it|which is|which was|leaving|that's|:|"
    rf",) {NUMBER}(?: [a-z]{{1,12}}){{0,2}} (?:before|earlier|prior|previously)(?=[.,;]|$)|"
    rf"\b\d{{1,7}}(?: [a-z]{{1,12}})? earlier(?=[.;])",
    r"\bthe (?:number|value|amount|figure|total|result|score|count|sum|balance|price|level|weight|length|height|pile|"
    r"stock) (?:just |right |immediately )?(?:before|without|prior to|ahead of) (?:(?:the|that|his|her|its|their|"
    r"this|it|them|any|being|(?!rounding|shipping)[a-z]{3,12}ing) ?)"
    r"(?!(?:tax|tip|discount|rounding|shipping|"
    r"sales)\b)[^.\n]{0,30}\b(?:was|were|should|must|had|has to|would|is|needs)\b[^.\n]{0,30}(?:\d|multiple|even|"
    r"odd|divisible)",
    # A part is known, and the whole is asked back from it.
    r"\bif (?:half|a third|two thirds|three quarters|a quarter|a fifth|\S{0,8}frac\S{1,9}|\d/\d|\d{1,2} ?%|(?:one|"
    r"two|three|four) (?:thirds?|fourths?|fifths?|sixths?|tenths?|sevenths?|eighths?))[^.,\n]{0,25} (?:is|was|"
    r"are|makes?|weighs?|costs?) [^.,\n]{0,3}\d[^.,\n]{0,15},[^.\n]{0,40}"
    r"\b(?:is|was|are|must|makes?|weighs?|costs?)\b[^.\n]{0,5}\d",
    r"\b(?:is|are|was|were|being|equals?) (?:only )?(?:half|a third|two thirds|three quarters|a quarter|\d/\d|"
    r"\d{1,2} ?%|(?:one|two|three|four|five|six|seven|eight|nine) (?:thirds?|fourths?|fifths?|sixths?|tenths?|"
    r"sevenths?|eighths?|ninths?|quarters))\b[^\n]{0,60}?\b(?:all of (?:it|them)|the whole(?: thing| of it)?|"
    r"the (?:original|full (?:price|amount|tank|number)|total)|it all|all)\b (?:\w{1,7} )?(?:is|was|were|are|makes?|"
    r"comes? to|must be|=)? ?[^\w\n]?\d",
    r"\b(?:after|with|including|counting) (?:the |a |an )?(?:\S{1,6} )?(?:tax|tip|discount|raise|increase|markup|"
    r"mark-up|interest|vat|growth|reduction|decrease|surcharge|"
    r"fee)\b[^\n]{1,70}?\b(?:divid\w{1,3} (?:\w{1,6} )?by|dividing|/) ?(?:1\.\d|0\.\d|"
    r"\d{2,3} ?%)[^\n]{0,50}\b(?:gives?|price|before|original|is|was|so|=)",
    r"\b(?:that's|that is|that was|this is|is|was|are|were) (?:what|how (?:many|much)|the \w{1,12}|where) (?:he|she|"
    r"it|they|there|we|tom) (?:\w{1,6} )?(?:set out|started|began|came|opened|went in|left home|"
    r"entered)\b(?! to)",
    r"\b(?:give|put|hand|pour|pay|add|send|move) (?:him |her |them )?back (?:the |his |her |their |those |these |"
    r"what )?(?:\S{1,12} ){0,4}?(?:(?:he|she|it|they) )?\w{2,12}[:,=] ?[^\n]{0,20}\d",
    # The proposition to be shown holds if another one does, which is then taken up.
    r"\b(?:if|when|once|provided|would|as soon as)\b[^.\n]{0,45}?\b(?P<w>[a-z]{5,14})\b[^.\n]{0,25}\. (?!what|find|"
    r"how|which|determine|compute)(?:and |now |but |so )?(?:[^.\n]{0,20}\b)?(?P=w)\b[^.\n]{0,40}?\b(?:if|when|"
    r"once|provided|would|comes? from|follows?|holds?)\b",
    r"\b(?:we|i)(?:'d| would| could) (?:be able to (?:conclude|finish|say|deduce)|have (?:it|the claim|the result|"
    r"our|won|what)|conclude|finish|be home)\b[^.\n]{0,30}?\b(?:if|once|provided|as soon as|from)\b",
    r"\b(?:would|could|can|might|must) (?:only )?(?:come|follow|result|arise|stem) (?:out )?(?:of|from)\b",
    r"\bin order that\b[^.\n]{1,60}\b(?:must|should|needs?|has to)\b|\bit(?:'s|"
    r" is) enough (?:for [^.\n]{1,40} to (?:be|have|hold)|to (?:have|get|know|make))\b",
    r"\bif [^.,\n]{1,50} (?:is|are|has|have) to (?:be|equal|come|end|have|sum|total|reach|average|hold|win|finish|"
    r"arrive|make)\b[^.\n]{1,70}(?:\d|\b(?:odd|even|must|may|needs?|cannot|has to|have to)\b)",
    r"\b(?:i|we) want (?:to leave (?!\S{1,5} ?%|\S{1,5}%|a )|him|her|them|my opponent|the opponent|the other player|"
    r"the (?:last|final))\b[^.\n]{1,60}\d",
    r"\bhow (?:can|could|might|would|does|did) [^?\n]{1,60}?\b(?:be|equal|come|arise|become|end|get|happen|total|"
    r"make|result)\b[^?\n]{0,40}\? (?:only|by|if|when|from|either|the (?:last|only)|through)\b",
    r"\b(?:suppose|say|imagine|picture|assume|pretend)[^.,\n]{0,15}\b(?:at|on|reached|standing on|already at|"
    r"stands at) (?:the )?(?:top|end|last|final|finish|goal|target|summit|exit)\b[^\n]{0,90}\b(?:before|brought|"
    r"came|come|from|previous|must)\b",
)

REASONS_BACK += (
    r"\b(?:we|i)(?:'re| are|'m| am)? (?:seek|seeking|look(?:ing)? for|after|search(?:ing)? for) (?!the (?:total|"
    r"number|value|cost|price|amount|sum|length|time)\b)[^.\n]{1,70}[.,;:] [^\n]{0,60}?\b(?:comes?|requires?|"
    r"needs?|must|arises?|only|appears?|has to|have to)\b",
    r"\bsuch (?:an? )?\w{2,14} (?:\w{2,9} )?(?:shows? up|appears?|arises?|comes?|occurs?|results?|"
    r"happens?) (?:about )?(?:if|when|from|only|where)\b",
    r"\b(?:it|that|this)(?:'d| would|'ll| will) (?:already |then )?(?:be (?:enough|sufficient|plenty)|suffice|"
    r"do it)\b|\benough to (?:find|show|prove|see|establish|exhibit)\b",
    r"\b(?:is|are|'s|be) (?:\w{1,9} )?(?:complete|finished|over|solved|settled|won|shown|proved|proven|established|"
    r"ours) (?:if|once|when|as soon as|the moment|provided)\b|\bwhat (?:needs?|requires?|calls for|"
    r"remains for) (?:a )?(?:proof|showing|proving|justif\w{1,8}|checking)\b",
    r"\b(?:end|ends|ended|finish\w{0,3}|final\w{0,2}|full|left|leaving|remain\w{0,3}|now|"
    r"total)\b[^\n]{1,170}[.;:] (?:so |hence |that means |then |and )?(?:he|she|it|they|there|"
    r"the \w{2,10}) (?:must have )?(?:started|began|set out|got on|boarded|held|came in|got in|entered|"
    r"weighed|opened) [^.,\n]{0,20}\d[^.,\n]{0,35}\.?$",
    r"\b(?:held|had|was|were|contained|stood at|weighed) [^.\n]{0,15}\d[^.\n]{0,20} when (?:he|she|it|they|"
    r"the \w{2,10}|his|her) (?:\w{2,10} )?(?:was (?:switched|turned) on|began|started|came|opened|arrived|"
    r"set out|set off|got (?:on|in|there)|took over)\b",
    r"\bwhich (?:\w{2,12} ){1,3}(?:reach|reaches|leads? (?:to|into|there)|maps? (?:to|into)|produces?|"
    r"ends? (?:up )?(?:in|at|with|on)|precedes?|feeds?|gets? (?:us |me )?(?:to|there)|goes (?:to|into)|"
    r"could precede)\b[^?\n]{0,40}\? ?\S",
    r"\b(?:to|for) (?!find|solve|answer|do\b)[^.\n]{3,60}?,? (?:we'd|we would|i'd|one would|"
    r"one'd) (?:\w{1,9} )?(?:need|have to have|require|want)\b[^.\n]{0,40}(?:\d|=|\bto be\b)",
    r"\b(?:last|later|latest)\b[^.\n]{1,45}\bso \w{2,12} (?:was|came|is|comes|went) first\b",
)

REASONS_BACK += (
    r"\bif (?:i|we) (?:can |could )?(?:prove|show|find|establish|get|manage|know|"
    r"have)\b[^.,\n]{2,50},? (?:then )?(?:i'm|we're|i am|we are|i'd be|we'd be|the \w{2,10} (?:is|would be)|"
    r"it) (?:\w{1,8} )?(?:finished|done|home|through|there|over|proved|complete|follows)\b",
    r"\b(?:they|it|this|that|he|she|these|those|[a-z])(?:'d| would) be (?!\$?\d|the same|more|less|better|easier|"
    r"nice)[^.,\n]{2,30}? (?:if|provided|once|as soon as) (?!he|she|they|you)\w",
    r"\b(?:to|in order to) (?!find|solve|answer|do\b|calculate|determine|compute)[^.,\n]{3,60}, (?!(?:so |"
    r"then )?(?:we|you|i|let|one|he|she|they|any|every|each|all|numbers)\b)[^.\n]{0,40}\b(?:has to|must|needs to|"
    r"had to) (?:bring|make|give|supply|contribute|carry|raise|lift|complete|provide|take|fill|turn|produce|"
    r"cancel)\b",
    r"\b(?:to|in order to) (?:arrive at|end|finish|reach|come out|be left|land|break even|"
    r"have)\b[^.\n]{2,40}?,? (?:he|she|it|they|the \w{2,10}) (?:must have|would have had to|"
    r"had to have)\b[^.\n]{0,30}\d",
    r"\b(?:which|what) (?:\w{2,12} ){1,4}(?:must|could|might|would|can) (?:\S{1,12} ){1,5}(?:before|earlier|"
    r"come from|have (?:had|been|come))\b[^?\n]{0,20}\?",
    r"\bgives? (?:us |me )?(?:back )?the (?:input|original|plain ?text|message|starting \w{3,8}|"
    r"initial \w{3,8})\b(?! (?:equation|expression))",
    r"\b(?:result|output|outcome|final (?:number|value|score|amount|figure)|end value)(?: is| was|,| of|"
    r":){0,2} \$?\d{1,6}[.;,:] (?:so |then |and |now )?(?:take|subtract|minus|divide|remove|halve|undo|add|"
    r"multiply|double)\b|\d: (?:his|her|the|my) (?:\w{1,9} )?(?:number|start|secret|original)\b(?=[.;]|$)",
    r"\bthe (?!price|cost|bill|total|amount)[a-z]{3,12} (?:just )?before (?:the|that|this|his|her|its) (?!tax|"
    r"discount|sale|tip)[a-z]{3,12} (?:was|were|had|must)\b[^.\n]{0,20}\d",
    r"\b(?:average|mean|total|sum|product|score|perimeter|area)\b[^.\n]{0,40}\b(?:takes?|requires?|needs?|calls for|"
    r"means|demands)\b[^\n]{1,70}\bso (?:the|her|his|its) \w{2,10}(?: \w{2,10}){0,2} (?:must|has to|needs? to)\b",
)
REASONS_BACK += (
    r"\b(?:product|sum|total|result|number|square|difference|quotient|remainder|last digit)\b[^.\n]{0,35}\b(?:must|"
    r"has to|needs to|is to) (?:be|end|equal|come|have|leave)\b (?!positive|negative|an? integer|whole|less|"
    r"more)[^.\n]{1,40}\b(?:so|hence|thus|therefore|which means) (?=(?:one|none|no|neither|both|either|each|all|"
    r"every|some|its|his|her) )",
    r"\bto (?:leave|force|be left with|end (?:up )?(?:with|on|at)|land on|win)\b[^.,\n]{1,40}? (?:i|we|he|she|it|"
    r"they|one) (?:need|must|has|have|needs)(?: to)? (?:have|be|start|come|hold|stand|leave|get)\b[^.\n]{0,30}\d",
    r"\b(?:and|so|hence|thus) (?:he|she|it|they|there|i|we)(?:'d| had) (?:had|been|held|started with|owned|"
    r"begun with) [^.\n]{0,10}\d",
    r"\bis (?:the|our|my) (?:aim|goal|target|objective|wish)\b[^\n]{0,6}[.;,] (?:that's|this|that|it|for (?:this|"
    r"that|it)|so) ?(?:\w{1,9} )?(?:needs?|means|is|requires?|takes?|by|follows|comes?|would)?\b",
    r"\b(?:so|hence|thus) (?:it|he|she|they|the \w{2,10}|\w{2,10}) (?:was|were|had) [^.,\n]{1,20} (?:beforehand|"
    r"before (?:that|it)|just before|until then|prior to (?:it|that))(?=[.,;])",
    r"\b(?:answer )?(?:choices|options)\b[^.\n]{0,20}\bonly \(?[a-e]\b",
)
