"""The ways in which a writer reasons from the end to the start, by kind and not by wording.

Each kind is a frame over families of words: turning a process round, undoing an operation, naming the state before
the last, asking what would bring the goal about. backward_cues holds the older list.
"""

from __future__ import annotations

from dpr_mini.selection.cues import OPERATION, START

NUMBER = r"[\u20ac\u00a3$\\(]{0,3}\d[\d.,/:]{0,11}"
SO = r"(?:so|hence|thus|therefore|which means|meaning|that means|this means|making|makes|which makes|giving|and so|implies|tells us|we know)"
# A process that can be gone through from its end.
PROCESS = (
    r"(?:process|steps?|operations?|recipe|instructions?|rules?|maps?|machine|chain|story|events?|history|timeline|game|argument|film|movie|tape|"
    r"clock|algorithm|procedure|function|calculations?|sequence|trick|route|path|moves?|computation|program|code|transactions?|exchanges?|"
    r"trades?|days?|rounds?|stages?|flow|flowchart|order|pours?|time|problem|table|trip|journey|division|transformations?|construction|changes?|logic)"
)
GO = (
    r"(?:go|going|run|running|work|working|read|reading|apply|applying|follow|following|walk|walking|trac(?:e|ing)|play|playing|step|stepping|do|doing|"
    r"take|taking|turn|turning|wind|winding|roll|rolling|rewind|rewinding|travers(?:e|ing)|climb|climbing|replay|replaying|move|moving|think|thinking|"
    r"look|looking|reason|reasoning|tell|telling|unroll|unrolling|use|using|perform|performing|solve|solving|attack|tackle|come|coming|set|count|crawl|proceed)"
)
AGAINST = (
    r"(?:backwards?|in reverse|the other way(?: a?round)?|the opposite way|in (?:the )?(?:reverse|reversed|opposite|other) (?:order|direction)|from (?:the )?(?:bottom|end|back|last|finish|"
    r"tail|right-hand end) (?:to|up|toward\w?)|bottom[- ](?:to[- ]top|up)|last to first|end to (?:start|beginning|front)|upstream|from behind|back (?:in time|through time))"
)
UNDO = (
    r"(?:undo(?:es|ing|ne)?|undid|un-?do|revers(?:e|es|ed|ing)|invert(?:s|ed|ing)?|cancel(?:s|led|ling)?(?! that)|peel(?:s|ing)?|strip(?:s|ping)?|unwrap(?:ping)?|unwind(?:s|ing)?|unravel\w{0,4}|"
    r"unpack(?:ing)?|unstack(?:ing)?|unscrambl\w{1,3}|roll(?:ing)? back|backtrack(?:ing)?|rewind(?:ing)?|tak(?:e|ing) back|neutrali[sz]\w{1,3}|counter(?:ing)?)"
)
EVENT = (
    r"(?:round|day|step|move|turn|stage|stop|guard|customer|trade|sale|purchase|dinner|meal|game|pour|week|month|year|hour|night|morning|visit|gift|discount|tax|tip|fee|exit|"
    r"deposit|withdrawal|payment|doubling|halving|addition|multiplication|subtraction|division|increase|decrease|raise|cut|change|loss|transfer|exchange|delivery|donation|"
    r"spill|theft|bus stop|swap|operation|hop|jump|fold|split|share|shopping|lunch|party|snack|trip|store|shop|toll|gate|door|level|layer|transaction)"
)
BEEN = (
    r"(?:been|had|found|held|stood|contained|weighed|started|begun|come|measured|numbered|shown|owned|carried|left|set|entered|met|arrived|seen|gone|cost|kept|"
    r"drawn|set out|set off|faced|worn|boarded|stored|counted)"
)
HAD = r"(?:was|were|had|held|stood|stood at|numbered|measured|weighed|cost|contained|counted|owned|came to|must have|showed|read|is|are|has|there (?:was|were)|found|started|began|amounted|totalled|carried)"
EARLIER = (
    r"(?:beforehand|at first|originally|initially|to (?:start|begin) with|in the beginning|at the (?:start|outset|beginning|opening)|on (?:monday|tuesday|day (?:one|1)|the first (?:day|morning)|entry|arrival)|"
    r"in the first place|before (?:the|that|this|any|all|it|he|she|they|his|her|their|him|them|anything|everyone|[a-z]{3,12}ing)|earlier|previously|one (?:step|move|day|round|turn) (?:back|before|earlier)|"
    r"in hand then|at that point|up to then|until (?:then|he|she|it|they|the)|till then|ahead of (?:it|him|her|that|the)|prior to|yesterday|the day before|the (?:night|week|year|month|hour) before|going in|coming in)"
)
# How a state at the end is announced.
END = (
    r"(?:at the (?:finish|end|close)|in the end|when (?:all|everything|it) (?:was|is|had|were)|by the end|finally|afterwards|left\b|remain\w{0,3}|ends? (?:up )?(?:with|at|on|in|as)|ended|ending|finish\w{0,3}|"
    r"walks? out|comes? out|came out|appeared|appears|nothing|final\w{0,2}|last\b|now\b|leaves? with|closing|once (?:all|everything|the)|today|result\w{0,3}|after (?:all|that|the|this|paying|giving|spending|selling)|"
    r"still (?:has|have|had)|goes home|went home|arriv\w{2,3}|total(?:s|led)?|reads?|shows?)"
)
WON = r"(?:(?:a )?(?:losing|lost|winning|won|loss|win|cold|hot)|(?:p|n)-positions?)"
GOAL = r"(?:goal|aim|target|conclusion|claim|result|statement|identity|inequality|theorem|thesis|last line|final line|end|answer|qed|objective|destination|outcome)"
HOLD = (
    r"(?:follows?|hold|holds|suffices?|be enough|do it|do the (?:job|trick)|be (?:over|done|finished|settled|proved|proven|established|immediate|true|left(?! over)|reached|met|satisfied|guaranteed|ours|within reach)|"
    r"hand (?:me|us) (?:this|that|it)|deliver|give (?:me|us) (?:this|that|it)|get (?:me|us) (?:there|this|that)|come for free|drop out|fall out|come out)"
)
WHEN = r"(?:if(?! and only)|provided|as soon as|once|the moment|when|whenever|in case|given that)"
_ORDINAL = (("fifth", "fourth"), ("fourth", "third"), ("third", "second"), ("second", "first"))
_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")

REASONS_BACK = (
    # A process gone through the other way, or a step of it undone.
    rf"\b{UNDO} (?:of )?(?!(?:the |his |her |its )?(?:cars?|trucks?|bus|digits?|van|boat|letters|number|word|list|inequality|direction|charge|signs?|arrow|string|array)\b)(?:her|his|its|their|my|our|the|that|this|these|those|each|every|all|both|it|them|an?|what|adding|subtracting|multiplying|dividing|doubling|halving|everything|\+|-|\u00d7|layers?|(?!the (?:car|truck|bus|digits?|van|boat|letters|number|word|list|inequality|direction|charge|sign)\b)"
    rf"the [\w-]{{1,12}}) ?(?:\w{{1,12}} ){{0,3}}?(?:\d|[-+*/\u00d7] ?\d|{EVENT}s?\b|{PROCESS}|{OPERATION}|layers?|shifts?|squar\w{{1,3}}|roots?|logs?|logarithm)",
    r"\b(?:to|we|i|can|must|by) (?:decod\w{1,3}|decrypt\w{0,3}|decipher\w{0,3}|invert\w{0,3}|unscrambl\w{1,3})\b[^.\n]{1,70}\b(?:back|shift\w{0,3}|towards?|subtract\w{0,3}|instead|inverse|revers\w{1,3}|undo\w{0,3}|left|minus|divid\w{1,3})\b",
    r"\b(?:retrac|backtrac)(?:e|es|ed|ing|k|king) (?:\S{1,12} ){0,2}(?:steps?|path|route|moves?|way|through|from|to)\b|\brevers(?:e|ing) (?:the |each |these |this |his |her |all )?(?:\w{1,12} )?(?:steps?|signs? of|operations?)\b",
    rf"(?:{START}|[;,:] ?(?:so |and |then |now )?|\b(?:so|if (?:we|i|you)|let's|let me|we) )(?:put|give|hand|return|restore|pour|add|move|send|bring|pay|tak|remov|pull)(?:e|ing)? (?:\S{{1,14}} ){{1,4}}?"
    rf"(?:back|again|in again|back in|back on|to (?:him|her|it|them) again|with them again|out again|off again)\b(?: \w{{1,9}}){{0,4}} ?(?:[:,;.=]|gives?|makes?|and)[^\n]{{0,40}}\d",
    rf"[,;:.] ?(?:so |and |then |now )?(?:take|taking|put|putting|remove|removing|subtract|subtracting|add|adding) (?:that|those|these|them|it|the \S{{1,10}}) (?:\w{{1,9}} )?(?:out|off|in|back|away|again)\b ?[:;,.=] ?(?:so |and |that's )?(?:\w{{1,6}} ){{0,3}}{NUMBER}",
    rf"\bwithout (?:it|that|them|those|his|her|this|the)\b[^.\n]{{0,30}}\b(?:was|were|had|held|would have (?:had|been)|it's|that's) (?:\w{{1,9}} )?{NUMBER}",
    rf"\bthe (?:inverse|opposite|reverse) of (?:\w{{1,9}} )?(?:{OPERATION}|that|this|taking|losing|gaining|giving|shifting|tripling|rotating|cubing)",
    # The state before: named, dated, or told to have been what it must.
    rf"(?<!there )\b(?:must have|had to have|has to have|would have had to have|would have to have|ought to have) (?:\w{{1,9}} )?{BEEN} (?:\S{{1,12}} ){{0,4}}?{NUMBER}",
    rf"\b(?:{SO}|then|must)\b[^.\n]{{0,40}}\b(?:had to be|was|were) (?:\w{{1,9}} )?{NUMBER}(?: [a-z]{{1,12}}){{0,3}} (?:on entry|going in|coming in|on the way in|when (?:it|he|she|they) (?:entered|arrived|started|came|began|set out|left)|at first|beforehand|to start|ahead of)",
    rf"\b(?:just|right|immediately|directly|shortly) (?:before|ahead of|prior to) (?:that|this|it|him|her|them|the|his|their|she|he|they|[a-z]{{3,12}}ing)\b[^.\n]{{0,40}}?\b{HAD} [^.\n]{{0,30}}\d",
    rf"\b{NUMBER}(?: [a-z]{{1,12}}){{0,3}} (?:just |right )?beforehand\b|\bbeforehand\b[^.\n]{{0,15}}\b(?:was|were|had|held|stood)\b[^.\n]{{0,25}}\d",
    rf"\b(?:one|a|two|three|1|2) (?:single )?{EVENT}s? (?:earlier|before|ago|back|previously|prior)\b,?[^.\n]{{0,25}}\b(?:it|he|she|they|there|we|stood|was|were|had|must|held)\b[^.\n]{{0,50}}(?:\d|\b(?:one|either|on) of\b)",
    rf"\b{SO},? (?:[^\s.]{{1,12}} ){{0,6}}?{NUMBER}(?: [^\s.\d]{{1,12}}){{0,5}} {EARLIER}\b(?! (?:of [^.\n]{{1,20}})?\?)",
    rf"\b{SO},? (?:just |right |immediately )?{EARLIER}\b[^.?\n]{{0,45}}\b{HAD} [^.?\n]{{0,25}}\d",
    rf"\b{SO},? (?:\S{{1,12}} ){{0,7}}?(?:was|were|had|held|measured|weighed|numbered|cost|contained|stood at) [^.\n]{{0,25}}\d[^.\n]{{0,15}} (?:until|till|before|prior to) (?:he|she|it|they|the|that|this|his|her|[a-z]{{3,12}}ing)\b",
    rf"\b(?:so|hence|thus|therefore|means|meaning|and),? the (?:original|initial|starting|old|first|whole|full|entire|uncut|undiscounted|pre-\w{{2,9}}|opening) (?:\w{{1,12}} )?(?:must have|was|were|had|numbered|measured|weighed|held|cost|"
    rf"came to|amount\w{{0,2}} to) (?:\S{{1,9}} ){{0,3}}?{NUMBER}",
    rf"\bhalf of (?:it|them|the|what)[^.\n]{{0,40}}\b{SO}\b[^.\n]{{0,20}}\b(?:was|were|had) {NUMBER}|\b(?:is|are|was|were|makes?|equals?) (?:only )?(?:half|a third|two thirds|a quarter|three quarters|\d/\d|one third|one half|\d{{1,3}} ?%|"
    rf"three fourths|two fifths|the other half|the remaining \w{{3,8}})(?: of (?:it|them|the (?:original|total|whole|flock|pile|start\w{{0,3}}|first|amount)|what \w{{1,9}} \w{{1,9}}))?,? (?:so|hence|thus|and so|which makes|making)\b[^.\n]{{0,45}}\b"
    rf"(?:was|were|had|held|measured|numbered|must)\b[^.\n]{{0,12}}\d",
    rf"\b(?:the|a|his|its|her) (?:\w{{1,9}} )?(?:customer|person|child|one|stage|box|layer|step|guard|day|week|round|line|pour|owner|player|number|entry|row|operation|button|move|stop|boy|girl|visitor|link|state|machine|term) (?:just |right |immediately |that came |that comes )?"
    r"(?:ahead of|before|above|preceding|in front of|prior to) (?:him|her|it|that|this|the last|them|those)\b[^.\n]{0,20}\b(?:must|found|had|would|multipl\w{2,3}|adds?|was|were|is|doubles?|halves?|subtracts?|held|divid\w{1,2}|takes?|squares?|saw)\b"
    r"(?=[^.\n]{0,50}(?:\d|=|\bratio|\bthe\b))",
    rf"\b(?:comes?|came|arose|arises|results?|resulted|was the result|is the result|was (?:obtained|reached|produced|made)|got there) (?:out )?(?:of|from|by|after) (?:\w{{2,12}}ing|[^\s.]{{1,9}} (?:before|after) \w{{2,12}}ing)\b[^.\n]{{0,40}}\b(?:so|which puts|hence|puts|means|thus|"
    r"giving)\b[^.\n]{0,50}\d|\bputs (?:the|his|her|its) (?:start|beginning|original|opening|initial)\b",
    rf"\b(?:now|today|currently|at present|at (?:the moment|present))\b[^?\n]{{1,130}}\b(?:yesterday|the day before|last (?:night|week|month|year|tuesday|friday|monday|sunday)|an hour ago|on (?:mon|tues|wednes|thurs|fri|satur|sun)day|(?:a|one|two|three|\d+) (?:years?|days?|weeks?|months?|hours?) (?:ago|earlier|before))\b"
    rf"[^?\n]{{0,80}}(?:\b(?:so|must|hence|thus|therefore)\b|[:,;]|out|again|was|were) [^?\n]{{0,25}}?\d",
    rf"(?<!\\)\b{END}\b[^?\n]{{1,150}}?\b(?:so|hence|thus|therefore|which means|which makes|means|must have|had to|then|undo\w{{0,4}}|it follows)\b[^?\n]{{0,60}}?\b(?:\d[^?\n.]{{0,30}} )?(?:{EARLIER}|must have {BEEN}|(?:he|she|it|they|there) (?:started|began|set out|set off|came|arrived) (?:\w{{1,6}} )?(?:with|from|at|out)?) ?[^?.\n]{{0,25}}(?:\d|(?<=\d.{{12}})|(?<=\d.{{8}})|(?<=\d.{{5}}))",
    r"\bby the same (?:reasoning|token|logic|argument|step|rule)\b[^.\n]{0,30}\b(?:had|was|were|held|before)\b|\b(?:before|ahead of) (?:the|that) (?:first|second|third|fourth|1st|2nd|3rd|last|final)\b[^.,;\n]{0,20}\b\d",
    rf"\bbefore (?:the |his |her |that |its |their )(?:\S{{1,9}} )?{EVENT},? (?:\S{{1,9}} ){{0,4}}?(?:there (?:was|were)|was|were|had|stood|held|it|he|she|they|{NUMBER})(?=[^.\n]{{0,25}}(?:\d|[.;]))(?![^.\n]{{0,40}}(?:,? and |,? then |,? but ))",
    # Where it ends is where one starts.
    rf"\b(?:start|starting|begin|beginning|think|thinking|look|looking|know|consider|reason|reasoning|work|working|go|going)\b[^.\n]{{0,25}} (?:from|with|at|about|of|to|on) (?:where|what|how (?:much|many)) (?:he|she|it|they|we|i|is|was|are|were|remains?|must)\b[^.\n]{{0,25}}\b(?:ends?|finish\w{{0,3}}|land|lands|stops?|left|up with|at the end|come out|reach|arrive\w?)\b",
    rf"\b(?:start|starting|begin|beginning|work|working|go|going|tak(?:e|ing)) (?:back |off |out )?(?:from|with|at) (?:the |these |those |his |her |our |this |that )?(?:\S{{1,9}} ){{1,4}}?(?:left\b|remaining|that(?:'s| is| are| was| were| remained?| must) (?:left|over|supposed|to|come|remain)|left over|at the (?:end|finish|close)|still (?:there|left)|"
    r"in the end|(?:he|she|it|they) (?:ended|finished|was left|has left|had left)|supposed to|that (?:has to|should|must|is to) (?:come|appear|be|result|remain))",
    rf"\b(?:from|with|at) (?:the|our|my|this) (?:desired|wanted|required|known|given|claimed|final) {GOAL}\b[^.\n]{{0,50}}\b(?:back|before|ask|see what|need|down|up|towards?)\b",
    r"\b(?:its|the|her|his|their|very) (?:final|last|outermost|latest|most recent) (?:\w{1,9} )?(?:stage|step|operation|machine|instruction|button|press|box|action|layer|move|function|link)\b (?:\w{1,6} )?(?:is|was|adds?|subtracts?|doubles?|halve[sd]|multipl\w{2,3}|divid\w{1,3}|takes?|squares?|tripled?s?|cubes?|must|turned|gave|gives|produced)\b"
    r"(?=[^\n]{0,60}\b(?:so|inside|before|enter\w{0,2}|was|undo|hence|must)\b)",
    rf"\b(?:so|hence|thus|which means) {NUMBER} (?:enters?|entered|went in(?:to)? (?:it|that|the)|goes in|must go in|was (?:fed|put|the input|on the screen|sent|given|entered|there)|comes? in|came in|is (?:fed|inside|the input))\b",
    r"\b(?:the )?only (?:\w{2,12} )?(?:squares?|positions?|numbers?|states?|values?|cells?|points?|nodes?|ways?|places?|moves?|pairs?) (?:from which|that (?:can |could )?(?:leads?|gives?|maps?|sends?|reach|goes?|produces?|gets?)|to (?:get|arrive|come|reach|land))\b|"
    r"\bfrom (?:which|where) (?:it|he|she|one|you|they|we) (?:can|could|might|may|must have) (?:get|reach|have|come|arrive|land|go)\b|\b(?:pre-?images?|predecessors?|antecedents?)\b|\bwhat (?:precedes|preceded|came before|led to|leads to|feeds|fed)\b",
    rf"\b(?:is|are|as) {WON}\b[^\n]{{1,110}}?\b(?:is|are|be|as|,|and|\d) {WON}\b(?<=[\w,. ]{{3}})(?=[^\n]{{0,200}})",
    # What would bring the goal about.
    rf"\b(?:would|will|'d|does|shall) (?:\w{{1,9}} )?{HOLD}\b[^.\n]{{0,30}}?\b{WHEN}\b",
    rf"(?<!equality )(?<!equality then )\b(?:holds|follows|is (?:true|met|satisfied|proved|guaranteed|settled|immediate)) (?:\w{{1,9}} )?{WHEN} (?=[^.\n]{{1,90}})(?!\w{{1,3}} = \w{{1,3}}\.)",
    rf"\bwhat (?:sends?|brings?|takes?|leads?|leaves?|turns?|puts?|lands?|forces?|guarantees?|produces?|causes?|drives?|yields?|gets?|prints?|outputs?|would (?:force|guarantee|give|imply|make|yield|do|let|bring|suffice|cause|lead|put|produce|have)|could (?:force|give|have|imply|make|produce|lead)) "
    r"[^.?\n]{1,70}\?(?! how)",
    rf"\b(?:i'd like|we'd like|i would like|we would like|i want|we want|i wish|we hope|hoping|hope|want|need)(?: for)? (?:the |our |my |to see |to (?:reach|read|arrive at|conclude|land on|end on) )?(?:\w{{1,9}} )?{GOAL}?\b[^.?\n]{{0,60}}(?:[.;,]|\bor\b) [^.\n]{{0,70}}?\b(?:would|that'd|it'd) (?:\w{{1,9}} )?(?:hand|give|follow|do|be enough|suffice|need|deliver|imply|come|require|"
    r"mean|be true|hold|get)\b",
    rf"\b(?:want|show|prove|need|desired|claim|goal|wish)\b[^\n]{{1,170}}?\b(?:equivalent to|is the same as(?: showing| proving)?|amounts to|same as saying|comes down to|which is just|reduces to (?:showing|proving)|rearranges to|iff|if and only if|\\iff|\u21d4|\\leftrightarrow|\\longleftarrow|"
    r"\u21d0|\\impliedby)[^\n]{1,130}?\b(?:always holds|holds|true|clear\w{0,2}|obvious\w{0,2}|given|known|trivial\w{0,2}|evident|square)\b",
    r"\b(?:what|all) (?:\w{1,9} )?(?:we|i|that|is|remains)?(?: is)? ?(?:left|have|need|needed|missing|must|want|remains)? (?:is )?(?:to (?:establish|show|prove|justify)) (?:is|then)\b|\b(?:so|now) (?:all|what) (?:we|i|it) (?:\w{1,9} )?(?:needs?|takes?|requires?|lacks?) (?:now )?is (?:that|for|some|a way)\b",
    rf"\b(?:last|final|closing|bottom) (?:line|step|move|statement) (?:of|in) (?:the|our|this|my) (?:proof|argument|derivation|solution|game|chain)\b|\b(?:line|step|statement) (?:above|before|preceding) (?:it|that|this) (?:would|must|has to|should|will|could)\b",
    r"\b(?:needs?|requires?|calls for|demands?|rests on|depends on|hinges on)\b [^.\n]{1,70}?(?:, (?:and )?(?:which|that|this)|; (?:that|this|and that)|\. (?:that|this|which|and that|this one|that one)) (?:in turn |itself |again )?(?:needs?|requires?|calls for|demands?|holds? (?:if|when|once)|rests|depends|hinges|is (?:true|so) (?:if|when)|takes)\b",
    rf"\b(?:prints?|happens?|occurs?|outputs?|returns?|comes out|opens?|reached|works?|wins?|halts?|stops?|ends?|true|possible|shows?|lights?|passes)\b [^.\n]{{0,25}}\bonly (?:if|when|for|with|after)\b[^\n]{{1,150}}\b(?:must|had to|has to|hence|needs? to|so [a-z]{{1,9}} (?:was|is|had))\b",
    rf"\b(?:something|some number|a number|what number|which number|\?|\u25a1|_{{2,5}}|the (?:unknown|mystery) number) (?:that |which )?(?:times|plus|minus|over|divided by|multiplied by|squared|doubled|halved|tripled|whose|less|\+|-|\*|\u00d7) ?[^.\n]{{0,35}}\b(?:is|gives?|yields?|makes?|equals?|has to|must|becomes?|=)",
    r"\b(?:and|it|that|\w{1,3} [-+*/] \w{1,4}) (?:halved|doubled|tripled|squared|plus \d+|minus \d+|times \d+) (?:is|gives|was|makes) \d[^.\n]{0,15},(?: so| hence| thus)? [^.\n]{0,30}\b(?:was|were|had been)\b",
    rf"\b(?:supposed to|meant to|should|has to|must|is to|needs to|ought to) (?:come out|appear|end up|land|result|finish|arrive|close)\b[^\n]{{1,80}}\b(?:so|hence|before|something|must|needs?|was)\b(?=[^\n]{{0,60}}\d)",
    rf"{START}(?:the )?(?:aim|goal|target|wanted|desired|we want|want|to be shown|end state|final state|destination|finish line|qed)(?: is)? ?[:=] ?[^\n]{{1,110}}?\b(?:would|if|must|needs?|requires?|suffices|enough|so|for that|before|comes? from|came from|only)\b",
)
# Two dated states, the later one first: "day three: 14; day two: 11".
_STEPS = ("five|5|fifth", "four|4|fourth", "three|3|third", "two|2|second", "one|1|first")
_DATED = (
    *(
        rf"\b(?:the )?{a} (?!place|prize|and|or|of all|grade|floor|angle|equation|expression|condition|yields|gives|term\b)[^?\n]{{1,90}}?(?:\bso\b|\bhence\b|must|before|[:;])[^?\n]{{0,40}}?\d[^?\n]{{0,60}}?\b(?:the )?{b}\b(?! (?:place|prize|half|term|angle|side|equation|expression|condition))"
        r"[^?\n]{1,60}?\d"
        for a, b in _ORDINAL
    ),
    *(
        rf"\b(?:day|week|year|month|hour|round|stage|step|level|minute|night|turn|move|game) (?:{a})\b[^?\n]{{1,70}}?\b(?:day|week|year|month|hour|round|stage|step|level|minute|night|turn|move|game) (?:{b})\b[^?\n]{{0,25}}\d"
        for a, b in zip(_STEPS, _STEPS[1:], strict=False)
    ),
    *(
        rf"\b{b}\b[^?\n]{{1,80}}?\d[^?\n]{{0,50}}?(?:\bso|\bmust|\bhence|:) ?(?:on )?{a}\b[^?\n]{{0,40}}\d"
        for a, b in zip(_DAYS, _DAYS[1:], strict=False)
    ),
    *(rf"\bat {a}(?::00)? ?(?:pm|am|o'clock)?\b[^?\n]{{1,50}}?\bat {a - 1}(?::00)? ?(?:pm|am|o'clock)?\b[^?\n]{{0,50}}\d" for a in range(12, 1, -1)),
)
REASONS_BACK += _DATED
REASONS_BACK += (
    rf"\b(?:a|one|1) {EVENT.replace('day|', 'day|decade|century|')} ago\b[^?\n]{{0,50}}?\d[^?\n]{{0,30}}?\b(?:two|2|three|3) {EVENT.replace('day|', 'day|decade|century|')}s ago\b",
    # From an arrival to the time of leaving.
    r"\b(?:arriv\w{2,3}|got (?:home|there|in)|gets? (?:home|there|in)|ends?|ended|finish\w{0,3}|over at|landed|lands|reach\w{0,3}|shows?|is due|back at|returned|rings|rang)\b[^?\n]{0,30}?(?:\d{1,2}:\d\d|\bnoon|midnight|\d ?(?:pm|am)|at \d)[^?\n]{1,100}?"
    r"\b(?:(?:so|hence|means|must have|meaning|which|he|she|they|it|and)\b[^?.\n]{0,25}?\b(?:leaving|left|set (?:off|out)|started|starts|began|begun|begins|departed|departs|woke|wound|went in|took off|starting|beginning|leave|start|put in|switched on))\b[^?.\n]{0,15}\d",
    r"\b[a-e] (?:ends?|finish\w{0,3}|arrives?) at \d{1,2}(?::\d\d)?,? so [a-e] (?:at|by) \d",
    # Where a number came from, and where that one did; arrows and lines read upwards.
    r"(?P<n>\b\d{1,7})(?: [a-z]{1,12})?[,.;:] (?:and |then |so |while )?(?:the |that |those )?(?P=n) (?:[a-z]{1,12} )?(?:was|were|came|comes?|had been|itself|in turn|arose|is what|is the result|results?|resulted)\b",
    r"\b\d{1,7}(?: \w{1,12})? (?:was|is|were) (?:just )?(?:doubled|halved|tripled|squared|made|got|gotten|obtained|formed|increased|decreased|reduced|multiplied|divided|grown) from \d",
    r"\d ?(?:\u2190| <- |\\leftarrow|\\gets) ?\d|\b(?:the )?(?:one|line|step|row|equation) (?:above|before|over) (?:that|it|this)? ?(?:was|were|is|must|had|read|would|,)\b[^.\n]{0,30}(?:\d|=)|\b(?:line|one|row) above (?:that|it|was|is)\b",
    rf"\b(?:move|step|operation|rule|jump|edge|map|button|press)s? (?:that|which) (?:brought|took|got|led|leads?|gets|gave|made|produced|turned|takes?|brings?) [^.\n]{{0,20}}\b(?:there|here|it|this|that|us|to|him|her)\b",
    rf"\b(?:so|hence|thus|making it|which is|which was|leaving|that's|:|,) {NUMBER}(?: [a-z]{{1,12}}){{0,2}} (?:before|earlier|prior|previously)(?=[.,;]|$)|\b\d{{1,7}}(?: [a-z]{{1,12}})? earlier(?=[.;])",
    r"\bthe (?:number|value|amount|figure|total|result|score|count|sum|balance|price|level|weight|length|height|pile|stock) (?:just |right |immediately )?(?:before|without|prior to|ahead of) (?:(?:the|that|his|her|its|their|this|it|them|any|being|[a-z]{3,12}ing) ?)"
    r"(?<!tax )(?<!tip )(?<!rounding )(?<!shipping )(?<!discount )(?!(?:tax|tip|discount|rounding|shipping|sales)\b)[^.\n]{0,30}\b(?:was|were|should|must|had|has to|would|is|needs)\b[^.\n]{0,30}(?:\d|multiple|even|odd|divisible)",
    # A part is known, and the whole is asked back from it.
    r"\bif (?:half|a third|two thirds|three quarters|a quarter|a fifth|\S{0,8}frac\S{1,9}|\d/\d|\d{1,2} ?%|(?:one|two|three|four) (?:thirds?|fourths?|fifths?|sixths?|tenths?|sevenths?|eighths?))[^.,\n]{0,25} (?:is|was|are|makes?|weighs?|costs?) [^.,\n]{0,3}\d[^.,\n]{0,15},[^.\n]{0,40}"
    r"\b(?:is|was|are|must|makes?|weighs?|costs?)\b[^.\n]{0,5}\d",
    r"\b(?:is|are|was|were|being|equals?) (?:only )?(?:half|a third|two thirds|three quarters|a quarter|\d/\d|\d{1,2} ?%|(?:one|two|three|four|five|six|seven|eight|nine) (?:thirds?|fourths?|fifths?|sixths?|tenths?|sevenths?|eighths?|ninths?|quarters))\b[^\n]{0,60}?\b(?:all of (?:it|them)|the whole(?: thing| of it)?|"
    r"the (?:original|full (?:price|amount|tank|number)|total)|it all|all)\b (?:\w{1,7} )?(?:is|was|were|are|makes?|comes? to|must be|=)? ?[^\w\n]?\d",
    r"\b(?:after|with|including|counting) (?:the |a |an )?(?:\S{1,6} )?(?:tax|tip|discount|raise|increase|markup|mark-up|interest|vat|growth|reduction|decrease|surcharge|fee)\b[^\n]{1,70}?\b(?:divid\w{1,3} (?:\w{1,6} )?by|dividing|/) ?(?:1\.\d|0\.\d|\d{2,3} ?%)[^\n]{0,50}\b(?:gives?|price|before|original|is|was|so|=)",
    r"\b(?:that's|that is|that was|this is|is|was|are|were) (?:what|how (?:many|much)|the \w{1,12}|where) (?:he|she|it|they|there|we|tom) (?:\w{1,6} )?(?:set out|started|began|came|opened|went in|left home|entered)\b(?! to)",
    r"\b(?:give|put|hand|pour|pay|add|send|move) (?:him |her |them )?back (?:the |his |her |their |those |these |what )?(?:\S{1,12} ){0,4}?(?:(?:he|she|it|they) )?\w{2,12}[:,=] ?[^\n]{0,20}\d",
    # The proposition to be shown holds if another one does, which is then taken up.
    r"\b(?:if|when|once|provided|would|as soon as)\b[^.\n]{0,45}?\b(?P<w>[a-z]{5,14})\b[^.\n]{0,25}\. (?!what|find|how|which|determine|compute)(?:and |now |but |so )?(?:[^.\n]{0,20}\b)?(?P=w)\b[^.\n]{0,40}?\b(?:if|when|once|provided|would|comes? from|follows?|holds?)\b",
    r"\b(?:we|i)(?:'d| would| could) (?:be able to (?:conclude|finish|say|deduce)|have (?:it|the claim|the result|our|won|what)|conclude|finish|be home)\b[^.\n]{0,30}?\b(?:if|once|provided|as soon as|from)\b",
    r"\b(?:would|could|can|might|must) (?:only )?(?:come|follow|result|arise|stem) (?:out )?(?:of|from)\b",
    r"\bin order that\b[^.\n]{1,60}\b(?:must|should|needs?|has to)\b|\bit(?:'s| is) enough (?:for [^.\n]{1,40} to (?:be|have|hold)|to (?:have|get|know|make))\b",
    r"\bif [^.,\n]{1,50} (?:is|are|has|have) to (?:be|equal|come|end|have|sum|total|reach|average|hold|win|finish|arrive|make)\b[^.\n]{1,70}(?:\d|\b(?:odd|even|must|may|needs?|cannot|has to|have to)\b)",
    r"\b(?:i|we) want (?:to leave (?!\S{1,5} ?%|\S{1,5}%|a )|him|her|them|my opponent|the opponent|the other player|the (?:last|final))\b[^.\n]{1,60}\d",
    r"\bhow (?:can|could|might|would|does|did) [^?\n]{1,60}?\b(?:be|equal|come|arise|become|end|get|happen|total|make|result)\b[^?\n]{0,40}\? (?:only|by|if|when|from|either|the (?:last|only)|through)\b",
    r"\b(?:suppose|say|imagine|picture|assume|pretend)[^.,\n]{0,15}\b(?:at|on|reached|standing on|already at|stands at) (?:the )?(?:top|end|last|final|finish|goal|target|summit|exit)\b[^\n]{0,90}\b(?:before|brought|came|come|from|previous|must)\b",
)

REASONS_BACK += (
    r"\b(?:we|i)(?:'re| are|'m| am)? (?:seek|seeking|look(?:ing)? for|after|search(?:ing)? for) (?!the (?:total|number|value|cost|price|amount|sum|length|time)\b)[^.\n]{1,70}[.,;:] [^\n]{0,60}?\b(?:comes?|requires?|needs?|must|arises?|only|appears?|has to|have to)\b",
    r"\bsuch (?:an? )?\w{2,14} (?:\w{2,9} )?(?:shows? up|appears?|arises?|comes?|occurs?|results?|happens?) (?:about )?(?:if|when|from|only|where)\b",
    r"\b(?:it|that|this)(?:'d| would|'ll| will) (?:already |then )?(?:be (?:enough|sufficient|plenty)|suffice|do it)\b|\benough to (?:find|show|prove|see|establish|exhibit)\b",
    r"\b(?:is|are|'s|be) (?:\w{1,9} )?(?:complete|finished|over|solved|settled|won|shown|proved|proven|established|ours) (?:if|once|when|as soon as|the moment|provided)\b|\bwhat (?:needs?|requires?|calls for|remains for) (?:a )?(?:proof|showing|proving|justif\w{1,8}|checking)\b",
    rf"\b(?:end|ends|ended|finish\w{{0,3}}|final\w{{0,2}}|full|left|leaving|remain\w{{0,3}}|now|total)\b[^\n]{{1,170}}[.;:] (?:so |hence |that means |then |and )?(?:he|she|it|they|there|the \w{{2,10}}) (?:must have )?(?:started|began|set out|got on|boarded|held|came in|got in|entered|weighed|opened) [^.,\n]{{0,20}}\d[^.,\n]{{0,35}}\.?$",
    r"\b(?:held|had|was|were|contained|stood at|weighed) [^.\n]{0,15}\d[^.\n]{0,20} when (?:he|she|it|they|the \w{2,10}|his|her) (?:\w{2,10} )?(?:was (?:switched|turned) on|began|started|came|opened|arrived|set out|set off|got (?:on|in|there)|took over)\b",
    r"\bwhich (?:\w{2,12} ){1,3}(?:reach|reaches|leads? (?:to|into|there)|maps? (?:to|into)|produces?|ends? (?:up )?(?:in|at|with|on)|precedes?|feeds?|gets? (?:us |me )?(?:to|there)|goes (?:to|into)|could precede)\b[^?\n]{0,40}\? ?\S",
    r"\b(?:to|for) (?!find|solve|answer|do\b)[^.\n]{3,60}?,? (?:we'd|we would|i'd|one would|one'd) (?:\w{1,9} )?(?:need|have to have|require|want)\b[^.\n]{0,40}(?:\d|=|\bto be\b)",
    r"\b(?:last|later|latest)\b[^.\n]{1,45}\bso \w{2,12} (?:was|came|is|comes|went) first\b",
)

REASONS_BACK += (
    r"\bif (?:i|we) (?:can |could )?(?:prove|show|find|establish|get|manage|know|have)\b[^.,\n]{2,50},? (?:then )?(?:i'm|we're|i am|we are|i'd be|we'd be|the \w{2,10} (?:is|would be)|it) (?:\w{1,8} )?(?:finished|done|home|through|there|over|proved|complete|follows)\b",
    r"\b(?:they|it|this|that|he|she|these|those|[a-z])(?:'d| would) be (?!\$?\d|the same|more|less|better|easier|nice)[^.,\n]{2,30}? (?:if|provided|once|as soon as) (?!he|she|they|you)\w",
    r"\b(?:to|in order to) (?!find|solve|answer|do\b|calculate|determine|compute)[^.,\n]{3,60}, (?!(?:so |then )?(?:we|you|i|let|one|he|she|they|any|every|each|all|numbers)\b)[^.\n]{0,40}\b(?:has to|must|needs to|had to) (?:bring|make|give|supply|contribute|carry|raise|lift|complete|provide|take|fill|turn|produce|cancel)\b",
    r"\b(?:to|in order to) (?:arrive at|end|finish|reach|come out|be left|land|break even|have)\b[^.\n]{2,40}?,? (?:he|she|it|they|the \w{2,10}) (?:must have|would have had to|had to have)\b[^.\n]{0,30}\d",
    r"\b(?:which|what) (?:\w{2,12} ){1,4}(?:must|could|might|would|can) (?:\S{1,12} ){1,5}(?:before|earlier|come from|have (?:had|been|come))\b[^?\n]{0,20}\?",
    r"\bgives? (?:us |me )?(?:back )?the (?:input|original|plain ?text|message|starting \w{3,8}|initial \w{3,8})\b(?! (?:equation|expression))",
    r"\b(?:result|output|outcome|final (?:number|value|score|amount|figure)|end value)(?: is| was|,| of|:){0,2} \$?\d{1,6}[.;,:] (?:so |then |and |now )?(?:take|subtract|minus|divide|remove|halve|undo|add|multiply|double)\b|\d: (?:his|her|the|my) (?:\w{1,9} )?(?:number|start|secret|original)\b(?=[.;]|$)",
    r"\bthe (?!price|cost|bill|total|amount)[a-z]{3,12} (?:just )?before (?:the|that|this|his|her|its) (?!tax|discount|sale|tip)[a-z]{3,12} (?:was|were|had|must)\b[^.\n]{0,20}\d",
    r"\b(?:average|mean|total|sum|product|score|perimeter|area)\b[^.\n]{0,40}\b(?:takes?|requires?|needs?|calls for|means|demands)\b[^\n]{1,70}\bso (?:the|her|his|its) \w{2,10}(?: \w{2,10}){0,2} (?:must|has to|needs? to)\b",
)

MAY_REASON_BACK = (
    rf"\b(?:work|working|going|go|count|counting|come|coming|descend|descending) (?:back |down |backwards? )?from (?:the |this |that |our |his |her )?(?:total|final|end|sum|result|answer|last|known|given|target|outcome|goal|desired|finish)\b",
    rf"\b{GO} (?:\S{{1,14}} ){{0,7}}?{AGAINST}\b(?! (?:in time \d|seat|facing|gear|the (?:car|truck|bus)))",
    rf"\b{PROCESS} (?:\S{{1,9}} )?(?:backwards?|in reverse|the other way|from the (?:end|bottom|finish|last))\b",
    rf"{START}(?:so |now |thus |then |and )?(?:backwards?|in reverse|reversing|reversed|inverting|bottom[- ]up|end first|last (?:things?|step|one|move|operation) first|back in time|"
    r"(?:now )?from (?:the (?:end|back|finish|bottom|far end|final \w{3,9}|last \w{3,9}|outcome|goal|target|answer)|behind|last to first|finish to start))\b(?: [\w']{1,12}){0,4} ?[:,](?=[^\n]{0,90}\d)",
)
