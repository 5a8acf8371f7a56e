"""The ways in which a writer reasons from the end to the start, by kind and not by wording.

Each kind is a frame over families of words: turning a process round, undoing an operation, naming the state before
the last, asking what would bring the goal about. backward_cues holds the older list.
"""

from __future__ import annotations

from dpr_mini.selection.cues import OPERATION, START

NUMBER = r"[\u20ac\u00a3$\\(]{0,3}\d[\d.,/:]{0,11}"
SO = (
    r"(?:so|hence|thus|therefore|which means|meaning|that means|this means|making|makes|which makes|giving|and so|"
    r"implies|tells us|we know)"
)
# A process that can be gone through from its end.
PROCESS = (
    r"(?:process|steps?|operations?|recipe|instructions?|rules?|maps?|machine|chain|story|events?|history|timeline|"
    r"game|argument|film|movie|tape|"
    r"clock|algorithm|procedure|function|calculations?|sequence|trick|route|path|moves?|computation|program|code|"
    r"transactions?|exchanges?|"
    r"trades?|days?|rounds?|stages?|flow|flowchart|order|pours?|time|problem|table|trip|journey|division|"
    r"transformations?|construction|changes?|logic)"
)
GO = (
    r"(?:go|going|run|running|work|working|read|reading|apply|applying|follow|following|walk|walking|trac(?:e|ing)|"
    r"play|playing|step|stepping|do|doing|"
    r"take|taking|turn|turning|wind|winding|roll|rolling|rewind|rewinding|travers(?:e|ing)|climb|climbing|replay|"
    r"replaying|move|moving|think|thinking|"
    r"look|looking|reason|reasoning|tell|telling|unroll|unrolling|use|using|perform|performing|solve|solving|attack|"
    r"tackle|come|coming|set|count|crawl|proceed)"
)
AGAINST = (
    r"(?:backwards?|in reverse|the other way(?: a?round)?|the opposite way|in (?:the )?(?:reverse|reversed|opposite|"
    r"other) (?:order|direction)|from (?:the )?(?:bottom|end|back|last|finish|"
    r"tail|right-hand end) (?:to|up|toward\w?)|bottom[- ](?:to[- ]top|up)|last to first|end to (?:start|beginning|"
    r"front)|upstream|from behind|back (?:in time|through time))"
)
UNDO = (
    r"(?:undo(?:es|ing|ne)?|undid|un-?do|revers(?:e|es|ed|ing)|invert(?:s|ed|ing)?|cancel(?:s|led|ling)?(?! that)|"
    r"peel(?:s|ing)?|strip(?:s|ping)?|unwrap(?:ping)?|unwind(?:s|ing)?|unravel\w{0,4}|"
    r"unpack(?:ing)?|unstack(?:ing)?|unscrambl\w{1,3}|roll(?:ing)? back|backtrack(?:ing)?|rewind(?:ing)?|tak(?:e|"
    r"ing) back|neutrali[sz]\w{1,3}|counter(?:ing)?)"
)
EVENT = (
    r"(?:round|day|step|move|turn|stage|stop|guard|customer|trade|sale|purchase|dinner|meal|game|pour|week|month|"
    r"year|hour|night|morning|visit|gift|discount|tax|tip|fee|exit|"
    r"deposit|withdrawal|payment|doubling|halving|addition|multiplication|subtraction|division|increase|decrease|"
    r"raise|cut|change|loss|transfer|exchange|delivery|donation|"
    r"spill|theft|bus stop|swap|operation|hop|jump|fold|split|share|shopping|lunch|party|snack|trip|store|shop|toll|"
    r"gate|door|level|layer|transaction)"
)
BEEN = (
    r"(?:been|had|found|held|stood|contained|weighed|started|begun|come|measured|numbered|shown|owned|carried|left|"
    r"set|entered|met|arrived|seen|gone|cost|kept|"
    r"drawn|set out|set off|faced|worn|boarded|stored|counted)"
)
HAD = (
    r"(?:was|were|had|held|stood|stood at|numbered|measured|weighed|cost|contained|counted|owned|came to|must have|"
    r"showed|read|is|are|has|there (?:was|were)|found|started|began|amounted|totalled|carried)"
)
EARLIER = (
    r"(?:beforehand|at first|originally|initially|to (?:start|begin) with|in the beginning|at the (?:start|outset|"
    r"beginning|opening)|on (?:monday|tuesday|day (?:one|1)|the first (?:day|morning)|entry|arrival)|"
    r"in the first place|before (?:the|that|this|any|all|it|he|she|they|his|her|their|him|them|anything|everyone|"
    r"[a-z]{3,12}ing)|earlier|previously|one (?:step|move|day|round|turn) (?:back|before|earlier)|"
    r"in hand then|at that point|up to then|until (?:then|he|she|it|they|the)|till then|ahead of (?:it|him|her|that|"
    r"the)|prior to|yesterday|the day before|the (?:night|week|year|month|hour) before|going in|coming in)"
)
# How a state at the end is announced.
END = (
    r"(?:at the (?:finish|end|close)|in the end|when (?:all|everything|it) (?:was|is|had|were)|by the end|finally|"
    r"afterwards|left\b|remain\w{0,3}|ends? (?:up )?(?:with|at|on|in|as)|ended|ending|finish\w{0,3}|"
    r"walks? out|comes? out|came out|appeared|appears|nothing|final\w{0,2}|last\b|now\b|leaves? with|closing|"
    r"once (?:all|everything|the)|today|result\w{0,3}|after (?:all|that|the|this|paying|giving|spending|selling)|"
    r""
    r"still (?:has|have|had)|goes home|went home|arriv\w{2,3}|total(?:s|led)?|reads?|shows?)"
)
WON = r"(?:(?:a )?(?:losing|lost|winning|won|loss|win|cold|hot)|(?:p|n)-positions?)"
GOAL = (
    r"(?:goal|aim|target|conclusion|claim|result|statement|identity|inequality|theorem|thesis|last line|"
    r"final line|end|answer|qed|objective|destination|outcome)"
)
HOLD = (
    r"(?:follows?|hold|holds|suffices?|be enough|do it|do the (?:job|trick)|be (?:over|done|finished|settled|proved|"
    r"proven|established|immediate|true|left(?! over)|reached|met|satisfied|guaranteed|ours|within reach)|"
    r"hand (?:me|us) (?:this|that|it)|deliver|give (?:me|us) (?:this|that|it)|get (?:me|us) (?:there|this|that)|"
    r"come for free|drop out|fall out|come out)"
)
WHEN = r"(?:if(?! and only)|provided|as soon as|once|the moment|when|whenever|in case|given that)"

REASONS_BACK = (
    # A process gone through the other way, or a step of it undone.
    rf"\b{UNDO} (?:of )?(?!(?:the |his |her |its )?(?:cars?|trucks?|bus|digits?|van|boat|letters|number|word|list|"
    r"inequality|direction|charge|signs?|arrow|string|array)\b)(?:her|his|its|their|my|our|the|that|this|these|"
    r"those|each|every|all|both|it|them|an?|what|adding|subtracting|multiplying|dividing|doubling|halving|"
    r"everything|\+|-|\u00d7|layers?|(?!the (?:car|truck|bus|digits?|van|boat|letters|number|word|list|"
    r"inequality|direction|charge|sign)\b)"
    rf"the [\w-]{{1,12}}) ?(?:\w{{1,12}} ){{0,3}}?(?:\d|[-+*/\u00d7] ?\d|{EVENT}s?\b|{PROCESS}|{OPERATION}|layers?|"
    rf"shifts?|squar\w{{1,3}}|roots?|logs?|logarithm)",
    r"\b(?:to|we|i|can|must|by) (?:decod\w{1,3}|decrypt\w{0,3}|decipher\w{0,3}|invert\w{0,3}|"
    r"unscrambl\w{1,3})\b[^.\n]{1,70}\b(?:back|shift\w{0,3}|towards?|subtract\w{0,3}|instead|inverse|"
    r"revers\w{1,3}|undo\w{0,3}|left|minus|divid\w{1,3})\b",
    r"\b(?:retrac|backtrac)(?:e|es|ed|ing|k|king) (?:\S{1,12} ){0,2}(?:steps?|path|route|moves?|way|through|from|"
    r"to)\b|\brevers(?:e|ing) (?:the |each |these |this |his |her |all )?(?:\w{1,12} )?(?:steps?|signs? of|"
    r"operations?)\b",
    rf"(?:{START}|[;,:] ?(?:so |and |then |now )?|\b(?:so|if (?:we|i|you)|let's|let me|we) )(?:put|give|hand|return|"
    rf"restore|pour|add|move|send|bring|pay|tak|remov|pull)(?:e|ing)? (?:\S{{1,14}} ){{1,4}}?"
    r"(?:back|again|in again|back in|back on|to (?:him|her|it|them) again|with them again|out again|"
    rf"off again)\b(?: \w{{1,9}}){{0,4}} ?(?:[:,;.=]|gives?|makes?|and)[^\n]{{0,40}}\d",
    r"[,;:.] ?(?:so |and |then |now )?(?:take|taking|put|putting|remove|removing|subtract|subtracting|add|"
    rf"adding) (?:that|those|these|them|it|the \S{{1,10}}) (?:\w{{1,9}} )?(?:out|off|in|back|away|"
    rf"again)\b ?[:;,.=] ?(?:so |and |that's )?(?:\w{{1,6}} ){{0,3}}{NUMBER}",
    rf"\bwithout (?:it|that|them|those|his|her|this|the)\b[^.\n]{{0,30}}\b(?:was|were|had|held|would have (?:had|"
    rf"been)|it's|that's) (?:\w{{1,9}} )?{NUMBER}",
    rf"\bthe (?:inverse|opposite|reverse) of (?:\w{{1,9}} )?(?:{OPERATION}|that|this|taking|losing|gaining|giving|"
    r"shifting|tripling|rotating|cubing)",
    # The state before: named, dated, or told to have been what it must.
    r"(?<!there )\b(?:must have|had to have|has to have|would have had to have|would have to have|"
    rf"ought to have) (?:\w{{1,9}} )?{BEEN} (?:\S{{1,12}} ){{0,4}}?{NUMBER}",
    rf"\b(?:{SO}|then|must)\b[^.\n]{{0,40}}\b(?:had to be|was|"
    rf"were) (?:\w{{1,9}} )?{NUMBER}(?: [a-z]{{1,12}}){{0,3}} (?:on entry|going in|coming in|on the way in|"
    r"when (?:it|he|she|they) (?:entered|arrived|started|came|began|set out|left)|at first|beforehand|to start|"
    r"ahead of)",
    r"\b(?:just|right|immediately|directly|shortly) (?:before|ahead of|prior to) (?:that|this|it|him|her|them|the|"
    rf"his|their|she|he|they|[a-z]{{3,12}}ing)\b[^.\n]{{0,40}}?\b{HAD} [^.\n]{{0,30}}\d",
    rf"\b{NUMBER}(?: [a-z]{{1,12}}){{0,3}} (?:just |right )?beforehand\b|\bbeforehand\b[^.\n]{{0,15}}\b(?:was|were|"
    rf"had|held|stood)\b[^.\n]{{0,25}}\d",
    rf"\b(?:one|a|two|three|1|2) (?:single )?{EVENT}s? (?:earlier|before|ago|back|previously|"
    rf"prior)\b,?[^.\n]{{0,25}}\b(?:it|he|she|they|there|we|stood|was|were|had|must|held)\b[^.\n]{{0,50}}(?:\d|"
    r"\b(?:one|either|on) of\b)",
    rf"\b{SO},? (?:[^\s.]{{1,12}} ){{0,6}}?{NUMBER}(?: [^\s.\d]{{1,12}}){{0,5}} {EARLIER}\b"
    r"(?! (?:of [^.\n]{1,20})?\?)",
    rf"\b{SO},? (?:just |right |immediately )?{EARLIER}\b[^.?\n]{{0,45}}\b{HAD} [^.?\n]{{0,25}}\d",
    rf"\b{SO},? (?:\S{{1,12}} ){{0,7}}?(?:was|were|had|held|measured|weighed|numbered|cost|contained|"
    rf"stood at) [^.\n]{{0,25}}\d[^.\n]{{0,15}} (?:until|till|before|prior to) (?:he|she|it|they|the|that|this|"
    rf"his|her|[a-z]{{3,12}}ing)\b",
    r"\b(?:so|hence|thus|therefore|means|meaning|and),? the (?:original|initial|starting|old|first|whole|full|"
    rf"entire|uncut|undiscounted|pre-\w{{2,9}}|opening) (?:\w{{1,12}} )?(?:must have|was|were|had|numbered|"
    r"measured|weighed|held|cost|"
    rf"came to|amount\w{{0,2}} to) (?:\S{{1,9}} ){{0,3}}?{NUMBER}",
    rf"\bhalf of (?:it|them|the|what)[^.\n]{{0,40}}\b{SO}\b[^.\n]{{0,20}}\b(?:was|were|had) {NUMBER}|\b(?:is|are|was|"
    r"were|makes?|equals?) (?:only )?(?:half|a third|two thirds|a quarter|three quarters|\d/\d|one third|"
    rf"one half|\d{{1,3}} ?%|"
    rf"three fourths|two fifths|the other half|the remaining \w{{3,8}})(?: of (?:it|them|the (?:original|total|whole|"
    rf"flock|pile|start\w{{0,3}}|first|amount)|what \w{{1,9}} \w{{1,9}}))?,? (?:so|hence|thus|and so|which makes|"
    rf"making)\b[^.\n]{{0,45}}\b"
    rf"(?:was|were|had|held|measured|numbered|must)\b[^.\n]{{0,12}}\d",
    r"\b(?:the|a|his|its|her) (?:\w{1,9} )?(?:customer|person|child|one|stage|box|layer|step|guard|day|week|round|"
    r"line|pour|owner|player|number|entry|row|operation|button|move|stop|boy|girl|visitor|link|state|machine|"
    r"term) (?:just |right |immediately |that came |that comes )?"
    r"(?:ahead of|before|above|preceding|in front of|prior to) (?:him|her|it|that|this|the last|them|"
    r"those)\b[^.\n]{0,20}\b(?:must|found|had|would|multipl\w{2,3}|adds?|was|were|is|doubles?|halves?|subtracts?|"
    r"held|divid\w{1,2}|takes?|squares?|saw)\b"
    r"(?=[^.\n]{0,50}(?:\d|=|\bratio|\bthe\b))",
    r"\b(?:comes?|came|arose|arises|results?|resulted|was the result|is the result|was (?:obtained|reached|produced|"
    r"made)|got there) (?:out )?(?:of|from|by|after) (?:\w{2,12}ing|[^\s.]{1,9} (?:before|"
    r"after) \w{2,12}ing)\b[^.\n]{0,40}\b(?:so|which puts|hence|puts|means|thus|"
    r"giving)\b[^.\n]{0,50}\d|\bputs (?:the|his|her|its) (?:start|beginning|original|opening|initial)\b",
    r"\b(?:now|today|currently|at present|at (?:the moment|present))\b[^?\n]{1,130}\b(?:yesterday|the day before|"
    r"last (?:night|week|month|year|tuesday|friday|monday|sunday)|an hour ago|on (?:mon|tues|wednes|thurs|fri|"
    r"satur|sun)day|(?:a|one|two|three|\d+) (?:years?|days?|weeks?|months?|hours?) (?:ago|earlier|before))\b"
    r"[^?\n]{0,80}(?:\b(?:so|must|hence|thus|therefore)\b|[:,;]|out|again|was|were) [^?\n]{0,25}?\d",
    rf"(?<!\\)\b{END}\b[^?\n]{{1,150}}?\b(?:so|hence|thus|therefore|which means|which makes|means|must have|had to|"
    rf"then|undo\w{{0,4}}|it follows)\b[^?\n]{{0,60}}?\b(?:\d[^?\n.]{{0,30}} )?(?:{EARLIER}|must have {BEEN}|"
    rf"(?:he|she|it|they|there) (?:started|began|set out|set off|came|arrived) (?:\w{{1,6}} )?(?:with|from|at|"
    rf"out)?) ?[^?.\n]{{0,25}}(?:\d|(?<=\d.{{12}})|(?<=\d.{{8}})|(?<=\d.{{5}}))",
    r"\bby the same (?:reasoning|token|logic|argument|step|rule)\b[^.\n]{0,30}\b(?:had|was|were|held|before)\b|"
    r"\b(?:before|ahead of) (?:the|that) (?:first|second|third|fourth|1st|2nd|3rd|last|final)\b[^.,;\n]{0,20}\b\d",
    rf"\bbefore (?:the |his |her |that |its |their )(?:\S{{1,9}} )?{EVENT},? (?:\S{{1,9}} ){{0,4}}?(?:there (?:was|"
    rf"were)|was|were|had|stood|held|it|he|she|they|{NUMBER})(?=[^.\n]{{0,25}}(?:\d|"
    rf"[.;]))(?![^.\n]{{0,40}}(?:,? and |,? then |,? but |,? now ))",
    # Where it ends is where one starts.
    r"\b(?:start|starting|begin|beginning|think|thinking|look|looking|know|consider|reason|reasoning|work|working|"
    r"go|going)\b[^.\n]{0,25} (?:from|with|at|about|of|to|on) (?:where|what|how (?:much|many)) (?:he|she|it|"
    r"they|we|i|is|was|are|were|remains?|must)\b[^.\n]{0,25}\b(?:ends?|finish\w{0,3}|land|lands|stops?|left|"
    r"up with|at the end|come out|reach|arrive\w?)\b",
    r"\b(?:start|starting|begin|beginning|work|working|go|going|tak(?:e|ing)) (?:back |off |out )?(?:from|with|"
    r"at) (?:the |these |those |his |her |our |this |that )?(?:\S{1,9} ){1,4}?(?:left\b|remaining|that(?:'s|"
    r" is| are| was| were| remained?| must) (?:left|over|supposed|to|come|remain)|left over|at the (?:end|"
    r"finish|close)|still (?:there|left)|"
    r"in the end|(?:he|she|it|they) (?:ended|finished|was left|has left|had left)|supposed to|that (?:has to|should|"
    r"must|is to) (?:come|appear|be|result|remain))",
    r"\b(?:from|with|at) (?:the|our|my|this) (?:desired|wanted|required|known|given|claimed|"
    rf"final) {GOAL}\b[^.\n]{{0,50}}\b(?:back|before|ask|see what|need|down|up|towards?)\b",
    r"\b(?:its|the|her|his|their|very) (?:final|last|outermost|latest|most recent) (?:\w{1,9} )?(?:stage|step|"
    r"operation|machine|instruction|button|press|box|action|layer|move|function|link)\b (?:\w{1,6} )?(?:is|was|"
    r"adds?|subtracts?|doubles?|halve[sd]|multipl\w{2,3}|divid\w{1,3}|takes?|squares?|tripled?s?|cubes?|must|"
    r"turned|gave|gives|produced)\b"
    r"(?=[^\n]{0,60}\b(?:so|inside|before|enter\w{0,2}|was|undo|hence|must)\b)",
    rf"\b(?:so|hence|thus|which means) {NUMBER} (?:enters?|entered|went in(?:to)? (?:it|that|the)|goes in|"
    r"must go in|was (?:fed|put|the input|on the screen|sent|given|entered|there)|comes? in|came in|is (?:fed|"
    r"inside|the input))\b",
    r"\b(?:the )?only (?:\w{2,12} )?(?:squares?|positions?|numbers?|states?|values?|cells?|points?|nodes?|ways?|"
    r"places?|moves?|pairs?) (?:from which|that (?:can |could )?(?:leads?|gives?|maps?|sends?|reach|goes?|"
    r"produces?|gets?)|to (?:get|arrive|come|reach|land))\b|"
    r"\bfrom (?:which|where) (?:it|he|she|one|you|they|we) (?:can|could|might|may|must have) (?:get|reach|have|come|"
    r"arrive|land|go)\b|\b(?:pre-?images?|predecessors?|antecedents?)\b|\bwhat (?:precedes|preceded|came before|"
    r"led to|leads to|feeds|fed)\b",
    rf"\b(?:is|are|as) {WON}\b[^\n]{{1,110}}?\b(?:is|are|be|as|,|and|\d) {WON}\b(?<=[\w,. ]{{3}})(?=[^\n]{{0,200}})",
    # What would bring the goal about.
    rf"\b(?:would|will|'d|does|shall) (?:\w{{1,9}} )?{HOLD}\b[^.\n]{{0,30}}?\b{WHEN}\b",
    r"(?<!equality )(?<!equality then )\b(?:holds|follows|is (?:true|met|satisfied|proved|guaranteed|settled|"
    rf"immediate)) (?:\w{{1,9}} )?{WHEN} (?=[^.\n]{{1,90}})(?!\w{{1,3}} = \w{{1,3}}\.)",
    r"\bwhat (?:sends?|brings?|takes?|leads?|leaves?|turns?|puts?|lands?|forces?|guarantees?|produces?|causes?|"
    r"drives?|yields?|gets?|prints?|outputs?|would (?:force|guarantee|give|imply|make|yield|do|let|bring|"
    r"suffice|cause|lead|put|produce|have)|could (?:force|give|have|imply|make|produce|lead)) "
    r"[^.?\n]{1,70}\?(?! how)",
    r"\b(?:i'd like|we'd like|i would like|we would like|i want|we want|i wish|we hope|hoping|hope|want|"
    r"need)(?: for)? (?:the |our |my |to see |to (?:reach|read|arrive at|conclude|land on|"
    rf"end on) )?(?:\w{{1,9}} )?{GOAL}?\b[^.?\n]{{0,60}}(?:[.;,]|\bor\b) [^.\n]{{0,70}}?\b(?:would|that'd|"
    rf"it'd) (?:\w{{1,9}} )?(?:hand|give|follow|do|be enough|suffice|need|deliver|imply|come|require|"
    r"mean|be true|hold|get)\b",
    r"\b(?:want|show|prove|need|desired|claim|goal|wish)\b[^\n]{1,170}?\b(?:equivalent to|"
    r"is the same as(?: showing| proving)?|amounts to|same as saying|comes down to|which is just|"
    r"reduces to (?:showing|proving)|rearranges to|iff|if and only if|\\iff|\u21d4|\\leftrightarrow|"
    r"\\longleftarrow|"
    r"\u21d0|\\impliedby)[^\n]{1,130}?\b(?:always holds|holds|true|clear\w{0,2}|obvious\w{0,2}|given|known|"
    r"trivial\w{0,2}|evident|square)\b",
    r"\b(?:what|all) (?:\w{1,9} )?(?:we|i|that|is|remains)?(?: is)? ?(?:left|have|need|needed|missing|must|want|"
    r"remains)? (?:is )?(?:to (?:establish|show|prove|justify)) (?:is|then)\b|\b(?:so|now) (?:all|what) (?:we|i|"
    r"it) (?:\w{1,9} )?(?:needs?|takes?|requires?|lacks?) (?:now )?is (?:that|for|some|a way)\b",
    r"\b(?:last|final|closing|bottom) (?:line|step|move|statement) (?:of|in) (?:the|our|this|my) (?:proof|argument|"
    r"derivation|solution|game|chain)\b|\b(?:line|step|statement) (?:above|before|preceding) (?:it|that|"
    r"this) (?:would|must|has to|should|will|could)\b",
    r"\b(?:needs?|requires?|calls for|demands?|rests on|depends on|hinges on)\b [^.\n]{1,70}?(?:, (?:and )?(?:which|"
    r"that|this)|; (?:that|this|and that)|\. (?:that|this|which|and that|this one|that one)) (?:in turn |itself |"
    r"again )?(?:needs?|requires?|calls for|demands?|holds? (?:if|when|once)|rests|depends|hinges|is (?:true|"
    r"so) (?:if|when)|takes)\b",
    r"\b(?:prints?|happens?|occurs?|outputs?|returns?|comes out|opens?|reached|works?|wins?|halts?|stops?|ends?|"
    r"true|possible|shows?|lights?|passes)\b [^.\n]{0,25}\bonly (?:if|when|for|with|"
    r"after)\b[^\n]{1,150}\b(?:must|had to|has to|hence|needs? to|so [a-z]{1,9} (?:was|is|had))\b",
    r"\b(?:something|some number|a number|what number|which number|\?|\u25a1|_{2,5}|the (?:unknown|"
    r"mystery) number) (?:that |which )?(?:times|plus|minus|over|divided by|multiplied by|squared|doubled|"
    r"halved|tripled|whose|less|\+|-|\*|\u00d7) ?[^.\n]{0,35}\b(?:is|gives?|yields?|makes?|equals?|has to|"
    r"must|becomes?|=)",
    r"\b(?:and|it|that|\w{1,3} [-+*/] \w{1,4}) (?:halved|doubled|tripled|squared|plus \d+|minus \d+|"
    r"times \d+) (?:is|gives|was|makes) \d[^.\n]{0,15},(?: so| hence| thus)? [^.\n]{0,30}\b(?:was|were|had been)\b",
    r"\b(?:supposed to|meant to|should|has to|must|is to|needs to|ought to) (?:come out|appear|end up|land|result|"
    r"finish|arrive|close)\b[^\n]{1,80}\b(?:so|hence|before|something|must|needs?|was)\b(?=[^\n]{0,60}\d)",
    rf"{START}(?:the )?(?:aim|goal|target|wanted|desired|we want|want|to be shown|end state|final state|destination|"
    rf"finish line|qed)(?: is)? ?[:=] ?[^\n]{{1,110}}?\b(?:would|if|must|needs?|requires?|suffices|enough|so|"
    r"for that|before|comes? from|came from|only)\b",
)

MAY_REASON_BACK = (
    r"\b(?:think|look|consider|picture|imagine|start|begin)\w{0,3} (?:of |at |about |from |with )?(?:the |how the |"
    r"how it )?(?:very )?(?:end\b(?! of the (?:day|line|week|month|year|street|road|row|book|page|list|term))|ending|"
    r"last (?:move|round|moment|state|"
    r"position)|final (?:move|position|state|moment))",
    r"\b(?:work|working|going|go|count|counting|come|coming|descend|descending) (?:back |down |"
    r"backwards? )?from (?:the |this |that |our |his |her )?(?:total|final|end|sum|result|answer|last|known|"
    r"given|target|outcome|goal|desired|finish)\b",
    rf"\b{GO} (?:\S{{1,14}} ){{0,7}}?{AGAINST}\b(?! (?:in time \d|seat|facing|gear|the (?:car|truck|bus)))",
    rf"\b{PROCESS} (?:\S{{1,9}} )?(?:backwards?|in reverse|the other way|from the (?:end|bottom|finish|last))\b",
    rf"{START}(?:so |now |thus |then |and )?(?:backwards?|in reverse|reversing|reversed|inverting|bottom[- ]up|"
    r"end first|last (?:things?|step|one|move|operation) first|back in time|"
    r"(?:now )?from (?:the (?:end|back|finish|bottom|far end|final \w{3,9}|last \w{3,9}|outcome|goal|target|answer)|"
    r"behind|last to first|finish to start))\b(?: [\w']{1,12}){0,4} ?[:,](?=[^\n]{0,90}\d)",
)
