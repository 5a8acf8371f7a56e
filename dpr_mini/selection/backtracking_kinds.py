"""The ways in which a writer takes something back, by kind and not by wording: what makes up BACKTRACKING.

Each kind is a frame (who, which thing, what is said of it) over families of words. backtracking_cues holds the older
list, failed_tries the candidates and ways that fail. BACKTRACKS stand alone; behind MAY_BACKTRACK more text must
follow, and no word that all is well (CONFIRMED).
"""

from __future__ import annotations

from dpr_mini.selection.cues import START

NUMBER = r"[\u20ac\u00a3$\\(]{0,3}-?\d[\d.,/:]{0,11}"
ITEM = (
    r"(?:approach|method|claim|conjecture|attempt|idea|guess|assumption|path|strategy|choice|substitution|formula|"
    r"step|"
    r"answer|result|calculations?|computation|reasoning|equations?|value|solution|line|lists?|count|tally|totals?|sum|"
    r"figures?|signs?|expression|factors?|terms?|case|cases|casework|set-?up|bound|estimate|inequality|plan|"
    r"comparison|"
    r"model|interpretation|reading|arithmetic|algebra|work|argument|proof|numbers?|ratio|rate|limits?|units?|version|"
    r"response|conclusion|statement|derivation|expansion|factori[sz]ation|diagram|picture|sketch|table|denominator|"
    r"numerator|exponent|product|difference|quotient|conversion|percentage|decomposition|route|construction|"
    r"simplification|induction|hypothesis|recurrence|integral|derivative|coordinates?|parametri[sz]ation|ordering)"
)
BAD = (
    r"(?:wrong|incorrect|off\b|flawed|faulty|mistaken|false|invalid|backwards?|upside down|reversed|inverted|flipped|"
    r"swapped|mixed up|muddled|garbled|bogus|nonsens\w{1,4}|broken|incomplete|a mess|shaky|rubbish|garbage|useless|"
    r"worthless|unusable|no good|no use|no help|premature|sloppy|careless|hasty|inconsistent|a mistake|mistakes?|"
    r"silly|overkill|tedious|impractical|infeasible|wasteful|not useful|at fault|a blunder|an error|in error|errors?|"
    r"unjustified|illegal|circular|hopeless|pointless|misguided|unhelpful|"
    r"not (?:right|correct|valid|true|quite|what|the|how|legal|allowed)|"
    r"an? (?:bad|poor|terrible|wrong|wasted?|silly|unfortunate|dubious) \w{3,9}|the wrong \w{2,12}|too (?:crude|weak|"
    r"hasty|"
    r"optimistic|strong|quick|generous|simple|naive|loose|rough|fast|long|short|many|few|big|small|large|high|low)\b)"
)
SELF = (
    r"(?<!if )(?<!that )(?<!whether )(?<!unless )\b(?:i|we)(?:'ve|'d| have| had)?(?: (?!not\b|never\b|might\b|"
    r"could\b|would\b|if\b)[a-z]{2,12}){0,2}?"
)
# What one does wrongly. A number behind it is a thing of the story: "we dropped 3 balls".
SLIPPED = (
    r"(?:mis[a-z]{3,12}(?:ed|t|d|took|k)|misread|mistook|forgot|forgotten|overlooked|neglected|over-?counted|"
    r"under-?counted|"
    r"over-?estimated|under-?estimated|double[- ]?counted|botched|messed|screwed|slipped|goofed|blundered|muddled|"
    r"mangled|"
    r"garbled|bungled|fumbled|flubbed|rushed|erred|conflated|confused|confounded|mixed|lost (?:a|an|the|track|sight|"
    r"my|one) "
    r"(?!\d)(?:\w+ )?(?:branch|sign|factor|term|root|case|minus|track|unit|zero|digit|step|solution|count)|"
    r"lost (?:track|"
    r"sight|count)|left (?:off|out|behind)|omitted|(?:stopped|started|began|quit|rounded|divided|subtracted|added|"
    r"counted|"
    r"multiplied) (?:too|one (?:too|short)|twice|before i)|jumped (?:to|the gun|ahead|too)|went (?:too|one|wrong|"
    r"astray|off)|"
    r"transposed|(?:never|didn't|did not|haven't|failed to|neglected to|should have|ought to have|was supposed to|"
    r"shouldn't have|"
    r"should not have|needn't have|hadn't) (?:\w+ )?(?:account|allow|count\w{0,2}|divid\w{1,2}|multipl\w{1,3}|"
    r"includ\w{1,2}|"
    r"consider\w{0,2}|subtract\w{0,2}|add\w{0,2}|notic\w{1,2}|carr\w{1,3}|us\w{1,2}|check\w{0,2}|read|convert\w{0,2}|"
    r"square\w?|distribut\w{1,2}|flip\w{0,3}|chang\w{1,2}|appl\w{1,3}|tak\w{1,2}|take|taken|look\w{0,2}|put|pay|paid|"
    r"sort\w{0,2}|"
    r"revers\w{1,2}|double\w?|halv\w{1,2}|remember\w{0,2}|keep|kept|writ\w{1,4}|go|gone|done|do|start\w{0,2})|"
    r"(?:was|were|am|'m|got|am being|was being) (?:\w+ )?(?:too (?:hasty|quick|fast|greedy|careless|generous|eager|"
    r"optimistic|"
    r"strict|early)|careless|sloppy|hasty|mistaken|confus\w{2,3}|wrong(?! by)|off by|overcounting|undercounting|"
    r"double[- ]counting|mixing|thinking of|assuming|treating|forgetting|ignoring|neglecting|missing|overlooking|"
    r"mis\w{4,12}ing|"
    r"carried away|ahead of)|(?:'m|am|was|were|'ve been|have been|kept|keep) (?:\w{2,12}ing) [^.\n]{0,20}\b(?:wrong|"
    r"twice|"
    r"backwards|upside|instead)\b)"
)
TURNED = (
    r"(?:flipped|backwards?|reversed|swapped|upside[- ]down|wrong|inverted|mixed up|muddled|turned a?round|"
    r"the (?:other|wrong) way|the wrong|switched|interchanged|transposed|in twice|listed twice|down twice)"
)
# An interjection that stands before a second thought: drawn out or not.
EXCLAIM = (
    r"(?:oo+ps(?!-)|who+ps(?:ie)?|whoopsies|ar+gh|yikes|ouch|d'oh|doh|darn(?: it)?|dang(?: it)?|damn(?: it)?|drat|"
    r"rats|"
    r"crap|shoot|"
    r"gah|ack|ugh|bah|na+h|nah|nuh-uh|uh-oh|uh oh|oh dear|oh no|oh boy|er+m*|eh+|meh|pff+t?|tsk|sigh|yeah no|no wait|"
    r"blast|gosh|silly me|"
    r"hold (?:your|my) horses|not so fast|back up|strike that|stop right there|belay that)"
)
MATH_VERB = (
    r"(?:compar|work|set|put|writ|start|begin|remov|delet|multiply|divid|add|subtract|count|do|go|look|pick|choos|"
    r"let|factor|"
    r"expand|substitut|apply|solv|parametri[sz]|induct|integrat|differentiat|plac|draw|split|squar|isolat|eliminat|"
    r"bound|summ?|tak|us|try|consider|think|order|list|complet|reach|rais|treat|comput|calculat|condition|contract|"
    r"switch|turn|argu|express|keep|group|swap|measur|reduc|combin|plugg?|mov|examin|inspect|approach|rewrit|"
    r"rearrang|cub|halv|doubl|simplif|list|enumerat|case)"
    r"(?:e|ing|s)?"
)
REJECT = (
    r"(?:can't|cannot|won't|doesn't|does not|isn't|is not|isn't allowed|out of the question|short of|too (?:small|"
    r"big|large|high|low|few|many|"
    r"much|little|long|short|early|late)|over\b|exceeds?|negative|absurd|impossible|yet|fails?|failed|wrong|"
    r"more than|less than|greater than|smaller than|bigger than|"
    r"not enough|never|odd one|taken|misses|missed|no good|\u2717|overshoots?|undershoots?|remainder)"
)
REPAIR = (
    r"(?:(?:one|two|a \w{3,8}|\d) (?:\w{3,9} )?(?:more|less|fewer)(?= ?(?:,|then|:|gives|makes))|(?:second|next|new|"
    r"another|other) (?:guess|try|candidate|root|"
    r"option|value|choice|attempt|one|possibility)|this time|shift (?:\w{1,4} )?by|start (?:at|from|with) [a-z] =|"
    r"up to|down to|next (?:is|up|comes))"
)
CLAIM_VERB = (
    r"(?:says?|said|states?|specif\w{2,5}|allows?|forbids?|excludes?|demands?|requires?|mentions?|stops?|divides?|"
    r"(?:has|have|had|gives?|gave|tells?|told|reads?|counts?|talks?|uses?|used|needs?|speaks?|refers?|means?|puts?|"
    r"sets?|is|are|was))"
)
TEXT = (
    r"(?:problem|question|text|statement|exercise|rules?|prompt|puzzle|task|story|wording|instructions?|diagram|"
    r"table|hint)"
)
CANT = (
    r"(?:doesn't|does not|don't|do not|isn't|is not|isn't going to|is not going to|not going to|won't|will not|can't|"
    r"cannot|"
    r"didn't|did not|fails to|refuses to|never)"
)

BACKTRACKS = (
    # Of oneself: what I did was a slip, or stands the wrong way round.
    rf"{SELF} {SLIPPED}\b(?! \d| nothing)",
    r"\b(?:i|we)(?:'ve| have| had| got| put|'ve got| have got|'d| wrote| took| read| used|"
    rf" set)(?: [^\s.]{{1,14}}){{1,5}}? {TURNED}\b",
    r"\b(?:what (?:did|have|was|am) i (?:do|done|doing|thinking|even|just)|did i (?:just|really)|why (?:did|am|"
    r"would) i\b)",
    rf"\b(?:one|some|both|all|something|part|half) (?:of|in) (?:my|our|these|those|the) (?:\w{{1,12}} )?{ITEM} "
    rf"(?:is|are|was|were|must be|has to be|looks?|doesn't|don't)(?: \w{{1,12}})? ?(?:{BAD}|n't|not)",
    # My thing is bad, or leaves out or counts in what it should not.
    rf"\b(?:my|our)(?: [\w'-]{{1,14}}){{0,3}} {ITEM}\b(?: [^\s.]{{1,14}}){{0,6}}? (?:is|was|are|were|has|had|have|"
    r"looks?|must be|"
    rf"seems?|came out|comes out|went|goes|got)(?: [^\s.]{{1,14}}){{0,4}}? ?{BAD}",
    rf"\b(?:my|our) (?:\w{{1,12}} )?{ITEM}\b(?: [^\s.]{{1,14}}){{0,6}}? (?:{CANT} (?!have)\w|tells? (?:me|"
    r"us) nothing|ignore[sd]?|forg[eo]ts?|"
    r"leaves? out|left out|assume[sd]|misse[sd]|counts|counted|double|applie[sd]|include[sd]|overcount|undercount|"
    r"skip|drop|need(?:s|ed) "
    r"(?:fixing|repair|correct|chang|adjust|a fix)|only (?:covers?|works?|holds?|counts?))",
    rf"\b(?:the|that|this) (?:\w{{1,14}} )?{ITEM} (?:that |which )?i(?:'ve| have| had)? (?:\w{{1,9}} )?(?:quoted|"
    r"wrote|written|used|set|gave|given|"
    r"took|taken|computed|found|called|read|picked|chose|had|put|made|started|just|drew|applied|"
    rf"derived)\b(?: [^\s.]{{1,14}}){{0,5}}? "
    rf"(?:belongs?|applies|doubles?|counts|assume[sd]|twice|ignore[sd]?|uses|{CANT}|overcounts?|includes|leaves|"
    rf"misses|should|{BAD}|"
    r"is for|was for|is the|was the)\b",
    rf"\b[a-z]{{3,12}}ing (?:[^\s.]{{1,14}} ){{0,5}}?(?:was|were|is) (?:\w{{1,9}} )?{BAD}",
    rf"\b(?:previous|earlier|last|above|first|initial|original) (?:\w{{1,12}} )?{ITEM}\b(?: [^\s.]{{1,14}}){{0,4}}? "
    rf"(?:forg[eo]ts?|was (?:{BAD}|missing|based)|is {BAD}|had (?:an|the|a) (?:\w{{1,12}} )?(?:error|mistake|wrong|"
    rf"slip)|contain\w{{1,3}} "
    r"(?:an|a) (?:\w{1,12} )?(?:error|mistake)|misses|missed|omit\w{1,4}|ignore[sd]?|left out|doesn't|didn't|"
    r"overcount|double|won't|can't|assumed)",
    r"\b(?:error|mistake|slip|bug|flaw|blunder|typo|oversight|confusion|mix-?up|inconsistency|gap|hole|hitch|snag|"
    r"catch) "
    r"(?:is |was |lies |crept |sits |sneaked |snuck )?(?:in (?:my|our|the (?:step|line|last|previous|above|first|"
    r"second|third|sign|"
    r"algebra|arithmetic))|on my|of mine)\b",
    r"\b(?:an?|one|my|the|that) (?:\w{1,12} )?(?:slip|blunder|oversight|goof|typo|mix-?up|arithmetic error|"
    r"sign error|off-by-one|"
    r"miscount|misprint|copying error|transcription error|calculation error)\b(?! (?:rate|of \d))",
    r"\b(?:apologi[sz]e|apologies|pardon me|my fault|mea culpa|forgive me|sorry about|sorry for|my apolog\w{1,5})\b",
    # It is said again in its right form.
    r"\((?:revised|corrected|amended|fixed|redone?|redo|take (?:2|two)|second (?:try|attempt|go)|try (?:2|two|"
    r"again)|again|v2|retry)\)",
    rf"{START}(?:(?:step|part) \d{{1,2}}[^\w\n]{{1,3}})?(?:revised|corrected|amended|fixed|redone?|re-?do|edit|"
    r"erratum|fix|"
    r"fixing|correcting|amending|retry|retrying|repaired|take two|take 2|try again|second (?:try|attempt|go)|"
    r"attempt (?:2|two|#2)|"
    r"new (?:try|attempt|plan|start|idea)|clean (?:start|slate)|fresh (?:start|try|attempt))\b[^.=\n]{0,30}[:,.!]",
    r"\b(?:the|its|my|our) (?:real|proper|corrected|amended|revised|repaired|fixed|correct(?! (?:answer|option|"
    r"choice|response|"
    r"solution|to|number of))|right(?! (?:side|hand|answer|option|triangle|angle|choice|-|to|end|column|half))) "
    rf"(?:\w{{1,12}} )?{ITEM} (?:is|are|should|would|must|has to|comes|becomes|reads|=|:|then)",
    r"\b(?:so|it's|it is|that is|be|gives|give|that's|get|gets|makes?|making|total|need|to|becomes?|takes?|only|"
    r"just) (?:only |just )?"
    rf"{NUMBER}(?: [a-z]{{1,12}}){{0,2}}?,? (?:rather than|instead of|and not|not) (?:the )?{NUMBER}(?! [-+*/=])",
    rf"\bnot (?:the )?{NUMBER}(?: [a-z]{{1,10}})?,? but (?:rather |only |just |actually )?{NUMBER}(?![\d.]|"
    r" ?[-+*/\u00d7])",
    r"\b(?:so |and |then |, |- |better )?(?:make|call|let's make|let's call|change|correct) (?:that|it)(?: to|"
    rf" down to| up to| down)? (?:an? )?{NUMBER}(?![\d.]| ?[-+*/\u00d7])",
    r"\b(?:it|that|this|he|she|which|line|equation|there|step) (?:really |actually |surely )?(?:should|ought to|"
    r"must) (?:really |actually |just |only )?"
    r"(?:have been|read|say|be)\b [^.\n]{1,40}(?:,? (?:not|rather than|instead of)\b|\. (?:then|so|now|with|hence|"
    r"redo))",
    r"\b(?:what|the one|that) i (?:have|had|wrote|got|said|did|used|put|claimed|"
    r"computed)(?: [^\s.]{1,14}){0,4}? (?:doesn't|does not|can't|cannot|won't|"
    r"isn't|wasn't|is wrong|was wrong|no longer|falls|fails|collapses|breaks)",
    r"\b(?:doesn't|does not|can't|cannot|won't|no longer) (?:stand|hold up|hold water|survive)\b(?! (?:on|in|by)\b)",
    # Thrown away.
    rf"(?:{START}|\b(?:let me|let's|let us|i'll|i will|i'm|we'll|we|i|so|now|better|must|to|and) )(?:then |just |"
    r"therefore |now )?"
    r"(?:throw|throwing|toss|tossing|chuck|chucking|bin|binning|ditch|ditching|scrap|scrapping|dump|dumping|shelve|"
    r"shelving|"
    r"abandon|abandoning|discard|discarding|drop|dropping|erase|erasing|delete|deleting|cross|crossing|strike|"
    r"striking|"
    r"retract|retracting|withdraw|withdrawing|leave|leaving|rub|rubbing|wipe|wiping|set|setting|put|putting|give up|"
    r"giving up) "
    r"(?:on )?(?:it|this|that|these|those|them|everything|all (?:of )?(?:that|this|it)|(?:my|the|this|"
    rf"that) (?!(?:negative|extraneous|positive|other|second|invalid) )(?:[\w-]{{1,14}} ){{0,2}}{ITEM})\b"
    r"(?: (?:out|away|aside|over|off|clean|and|altogether|again|for)|[.;,:])(?! (?:he|she|they)\b)",
    rf"\b(?:pull|pulling|back|backing|bail|bailing|step|stepping) (?:out|away|off|back|down)(?: of| from| on)? "
    rf"(?:this|that|it|the|here)(?: [\w-]{{1,14}}){{0,2}} ?(?:{ITEM}|[;:.,])",
    r"\bout (?:it|they|that|this) goes?\b|\b(?:that|this|it|\d{1,5}) (?:one )?(?:goes out|has to go|"
    r"must go(?=[.,;:!])|gets crossed|gets struck|"
    r"is thrown out|is disqualified|is ruled out|is eliminated)(?: of (?:my|the|our) list)?\b",
    r"\b(?:drops|falls|goes|comes) (?:out|off) (?:of )?(?:my|our) list\b",
    r"\b(?:start|starting|begin|beginning|try|trying|do|doing|redo|once more|over) (?:it |this |that |everything |"
    r"all )?"
    r"(?:afresh|fresh|anew|all over|from scratch|from the top|from square one|over again|over)\b(?! (?:the|a|\d|"
    r"with \d))",
    r"\bback to (?:square one|the drawing board|step one|scratch)\b|\b(?:change|switch) of (?:plan|tack|strategy|"
    r"approach)\b|"
    r"\bplan b\b|\bnew plan\b|\bclean slate\b|\bregroup\b(?! the)|\b(?:write|writing|make|making|set up|setting up|"
    r"draw|drawing|try|trying) (?:up )?"
    r"(?:a )?(?:fresh|new) one\b",
    # The way leads nowhere, or is worse than another.
    r"\b(?:that|this|it|which)(?:'s| is| was| gets| got| looks| seems| would be| becomes|"
    r" turned out)(?: [a-z]{1,9}){0,2}? "
    r"(?:worse|uglier|messier|harder|nastier|more (?:complicated|difficult|complex) than|no (?:better|simpler|easier|"
    r"nicer|shorter)|not (?:any|much) "
    r"(?:better|simpler|easier|nicer|help)|hopeless|useless|pointless|unhelpful|awkward|horrible|awful|overkill|"
    r"unproductive|"
    r"circular|a (?:mess|waste|trap|pain|nightmare|slog|blind alley|detour|bad \w{3,9}|poor \w{3,9}|red herring)|"
    r"getting (?:us|me)? ?nowhere|"
    r"not (?:promising|productive|fruitful|useful|leading|getting|going|helping))\b",
    r"\b(?:worse|uglier|messier|harder|longer) than (?:before|what (?:we|i)|where (?:we|i)|the (?:original|"
    r"one (?:we|i)))\b",
    r"\b(?:bad|poor|terrible|wrong|unlucky|dubious) (?:call|idea|choice|pick|tool|move to)\b(?! (?:by|from))|\b(?:i|"
    r"we) (?:went|was|were|am|are|go|took) (?:\w{1,5} )?(?:down|on|up) (?:the|a) wrong",
    r"\b(?:this|that|it|which|approach|method|route|hypothesis|comparison|argument|substitution|bound|test|trick|"
    r"induction|attempt|idea) "
    rf"(?:just |simply |really |still |alone )?{CANT} (?:(?!be )\w{{1,9}} )?(?:close|help(?! (?:him|her|them))|fly|"
    r"lead|buy (?:me|us)|bring (?:me|us)|get (?:me|us)|tell|"
    r"give (?:me|us)|pan out|go through|hold up|do it|do the|reach|simplif\w{1,3}|cover|terminat\w{1,2}|pay|suffice|"
    r"carry over|add up|"
    r"make sense|square with|work out|yield|settle|decide|apply here|apply\b(?= [.;,])|fit (?:the|with)|go anywhere|"
    r"conclude)\b",
    r"\b(?:tells?|told|gives?|gave|gets?|got|buys?|says?) (?:me|us) (?:absolutely |almost )?(?:nothing|nowhere|"
    r"no (?:information|closer))\b",
    r"\btoo many (?:unknowns|cases|variables|branches|terms|possibilities|subcases|options|letters)\b|\btoo (?:much|"
    r"long) (?:casework|to (?:list|check|expand|"
    r"enumerate|do|compute|write) )",
    r"\b(?:i'm|i am|we're|we are|i got|now i'm|gets me|got me|leaves me|getting) (?:\w{1,9} )?(?:stuck|lost|nowhere|"
    r"bogged|tangled)\b|\bhit(?:ting)? a (?:wall|snag|"
    r"dead|brick)|\b(?:blind alley|cul-de-sac|wild goose|rabbit hole|spinning my|barking up|non-?starter|lost cause|"
    r"wasted effort|no headway|"
    r"no progress)\b|\b(?:not (?:getting|making|leading|going) (?:me |us |any )?(?:anywhere|progress|headway))\b",
    r"\b(?:goes|went|points|runs|moves?|is going|going|is|come out|comes out) (?:in )?(?:the )?(?:wrong|"
    r"opposite) (?:direction|way(?! (?:a?round )?from))\b",
    rf"{START}(?:so |then |now |ok(?:ay)?,? |let me |let's |i'll |we'll |i |we |better |perhaps |"
    rf"maybe )*?{MATH_VERB}\b [^.\n]{{1,70}} instead(?=[.:,;!]|$)",
    rf"{START}(?:so |then |now )?instead,? (?:let|i\b|we\b|{MATH_VERB}\b)",
    rf"\b(?:if|let me|let's|i'd|i'll|we'll|i can|we can) (?:\w{{1,9}} )?{MATH_VERB} [^.,\n]{{1,40}} instead\b(?! of)",
    r"\b(?:i'd|i would|we'd|i'll) (?:much )?(?:rather|better|prefer to) (?:\w{1,9} )?(?:start|use|work|go|try|do|"
    r"take|set|write|count|begin|look|think)\b",
    # A new look at the text, and what it says against what I had.
    rf"{START}(?:(?:ok|okay|oh|ah|so|but|now|hmm+),? )?(?:(?:on )?re-?reading|looking (?:back|closer|more closely)|"
    r"in hindsight|in retrospect|come to think of it|"
    r"now that i think|thinking about it (?:again|more)|on (?:inspection|review|second (?:reading|look|thoughts?))|"
    r"reading (?:more )?(?:carefully|closely)|"
    r"with a second look|a second look|a closer look|second thoughts?)\b",
    rf"\b(?:i|my|i've|i'd|i'm)\b [^\n]{{1,90}}?\b(?:but|whereas|while|yet|though|however,?) (?:\w{{1,9}} )?(?:the|"
    rf"our|this) {TEXT} (?:\w{{1,9}} )?{CLAIM_VERB}\b",
    rf"\b(?:hmm+|wait|no|off|wrong|oh|ah|uh)\b[^\n]{{1,70}}?\b(?:and|but|whereas|while|yet) (?:the|our|"
    rf"this) {TEXT} (?:\w{{1,9}} )?{CLAIM_VERB}\b",
    r"\b(?:wasn't|weren't|hadn't been|was not|were not|isn't) [^.\n]{1,30} when i\b|\bwhen i (?:should|ought|meant|"
    r"was supposed|shouldn't)\b",
    r"\b(?:i|we)(?:'ve|'d| have| had)? (?:gave|took|used|added|counted|put|wrote|treated|read|set|called|assumed|"
    r"allowed|charged|paid|included|made) [^.\n]{1,40} (?:when|whereas|while|although|though) "
    r"(?:he|she|it|they|there|only|the|that|this|in fact)\b(?= [^.\n]{1,40}(?:has|have|is|are|was|were|had|only|"
    r"should|said|says|stop|n't|not|per)\b)",
    # A result that is doubted as it stands there.
    r"(?:^|(?<=[.!?:\n] ))(?!(?:is|are|does|do|what|how|why|can|could|which|should|if|who|when|where|was|did|will|"
    rf"would|has)\b)[^.?\n=]{{0,90}}[^?\n=]= ?"
    rf"{NUMBER}(?: [a-z%]{{1,12}}){{0,2}} ?\?+(?!\?)(?= |$)(?! ?(?:yes|yep|yeah|right|correct|good|that works|ok|"
    r"indeed|it is|exactly|true|sure|ok))",
    # Broken off in the middle and turned: by dots, a dash or a short outcry behind a result.
    r"\w ?(?:\.\.\.|\u2026) ?(?:except|but|no\b|not\b|that's|that is|wait|hm+\b(?! so)|should|actually|only\b|"
    r"or rather|i\b(?!\.)|is that|and yet|though|oh|uh|ah|sorry|er\b|nope|make that|"
    r"(?=[^.\n]{1,45}\b(?:should|not|actually|only|don't|doesn't|isn't|aren't|can't|rather)\b)|"
    r"(?=(?:[a-z]{3,12} ){1,2}(?:have|has|are|is) (?:an? )?\d))",
    r"\w ?(?:--|[-\u2013\u2014]) ?(?:no\b(?=,| wait)|er\b(?=[ ,])|well, |wait|sorry|or rather|i mean|make that|"
    r"scratch|correction|oops|actually|that is wrong|not \d)",
    r"\d(?: [a-z/]{1,12}){0,3}[.?] (?!(?:let|here|great|so|now|aha|and|happy|good|we|yes|sure|that's it|done|nice|"
    r"perfect|exactly|correct|right|easy|voila|hooray|success|bingo|thus|hence|"
    r"awesome|excellent|wonderful|what a|how|it works|fits|it fits|enjoy|hope|"
    r"check)\b)[a-z][^.!?\n]{2,32}! (?=[^\n]{0,80}\d)",
    r"[.;,:] (?!(?:is|are|does|do|what|how|why|can|could|which|should|if|who|when|where|was|did|will|would|has|and|"
    r"any|the|so)\b)[a-z\d$-][^.?!,;:\n=]{0,18}\? (?=the (?:problem|text|question|story) |(?:but|no\b|not\b|"
    r"there|it's the|i\b|"
    r"nobody|that's (?:more|less|too|not|the)|that (?:can't|isn't|would))|(?:a|an) \w)(?=[^\n]{0,90}\d)",
    # Told in the pluperfect, or pointed at: what one had done, what happened.
    r"(?<=[.!?;:] )(?:i'd|i had|i've) (?:\w{3,9} )?(?:counted|added|used|put|taken|divided|multiplied|included|"
    r"subtracted|assumed|thought|set|read|written|swapped|got|left|solved|computed|"
    r"treated|applied|kept|rounded|copied|squared)\b",
    r"\d[^.\n]{0,25}[.!?;:,] (?:oh,? |ah,? )?i (?:just )?(?:added|divided|multiplied|used|subtracted|counted|took|"
    r"squared|doubled|halved|treated|applied|solved|computed|summed|measured) "
    r"(?:[^.\n]{1,25} )?(?:where|when|from the|for the wrong|by the (?!\w+ of)|as if|instead|but|too|both|once more|"
    r"twice|in place|the \S{1,9} (?:from|of the wrong|but|for))\b",
    r"\b(?:i|we) (?:can )?(?:now )?(?:see|know|spot|get|found|notice|understand) (?:now )?(?:what (?:happened|went|"
    r"is wrong|i did|i missed|was wrong|the problem)|the (?:catch|trap|glitch|hitch|snag|culprit|bug)|why (?:it|"
    r"that|this))\b",
    r"\bas i (?:claimed|said|wrote|did|had|assumed|thought|have)\b(?=[^.\n]{0,30}(?:,? because|,? since|: ))|"
    r"\b(?:and|but|which|when|where) (?:it |that |this |they |i )?(?:shouldn't|should not|oughtn't)\b",
    r"\bis what (?:i (?:need|needed|want|wanted|should)|should have|we (?:should|needed))\b|\bwas (?:supposed|"
    r"meant) to (?:be|multiply|add|use|subtract|divide)\b",
    rf"\bmy (?:\w{{1,12}} )?{ITEM}\b [^.\n]{{3,60}}\b(?:though|but|while|whereas|although|yet|instead of)\b",
    rf"\b{REJECT}\b[^\n]{{1,80}}?(?:\. |; |, |: )(?:so |then |hence |with |the |now |take |try |let's )?{REPAIR}\b",
    r"\b(?:let me|let's|i'll|again|redo|now) (?:[^\s.]{1,12} ){0,4}(?:out )?(?:properly|correctly|the right way|"
    r"right this time|more carefully|honestly|for real|with more care)\b",
    rf"{START}(?:not (?:useful|helpful|good enough|promising|quite|what i|what we|nice|pretty|allowed|possible|"
    r"so simple|so easy)|no use|useless|hopeless|pointless|silly)\b(?=[.,;:!]| of)",
    rf"{START}(?!(?:yes|so|as|what|how|and|that is|well|there|ok|here|whatever|whether|"
    rf"than)\b)[a-z][a-z' -]{{3,60}}(?<!what)(?<!how)(?<!as)(?<!so)(?<!whether)"
    rf"(?<!than)(?<!where)(?<!much)(?<!many)(?<!old)(?<!that) it is(?:[.!:]|"
    r""
    r"$)",
    rf"{START}correction\b(?! (?:fluid|pen|tape|factor|term))|\bthe wrong (?:pair|line|row|column|number|sign|way|"
    r"order|formula|units?|operation|direction|triangle|angle|side|factor|value|base|case|"
    r"variable|figure|exponent|equation|quantity|thing|digit|rate|root|height|radius|term|place|ratio|total|sum|"
    r"end of|fraction|person|one\b)(?! (?:was|is|on the|home))",
    r"\?\?+ (?=\w)|\b(?:lol|haha|facepalm|wtf)\b",
    rf"\b(?:yet|but|though|where) (?:\w{{1,10}} ){{0,3}}(?:has|have|had|needed?|needs|was needed|should be|must be|"
    rf"expected|wanted|was wanted)(?: only| just)? {NUMBER}\. "
    r"(?:\w{1,9} )?(?:one|two|so|then|that|make|take|less|more|let|try|subtract|add|too)\b",
)

MAY_BACKTRACK = (
    rf"(?:{START}|[,;\u2026] )(?:(?:oh|ah|but|ok|okay|well|and|no),? )?(?:{EXCLAIM}|wa{{2,9}}i+t+|wai+t{{2,9}}|no+pe|"
    rf"no{{2,9}}|u+h+|u+m+|huh|whoa)"
    r"(?:[,.!\u2026]{1,3}| ?[-\u2013\u2014]{1,2}) ?(?=\S)(?!(?:let me (?:see|think)|so (?:we|the|i)|okay|ok\b|"
    r"we have|what|how|nice|good|great|i see(?! now)|right|yes|(?:that's|that is|it's|it is) (?:nice|easy|simple|"
    r"just|"
    r"fun|a nice|simple)))",
    rf"{START}actually,? (?:(?=[^.\n]{{0,35}}n't\b)|hold|wait|no\b|not\b|(?:that|this|it) (?:is|was|does)(?:n't|"
    r" not)|(?:that|this|it)'s (?:not|the|only)|i (?:was|should|need|forgot|made|had|did))",
)
# All is well after all: what follows a doubt and takes it away.
CONFIRMED = (
    r"\b(?:stands|as (?:we|you) know|(?:answer|result|total|value|it|that|this|\d) (?:still )?stays|as i (?:said|"
    r"claimed|thought|did|"
    r"had|have|wrote)|no (?:changes?|harm|worries|correction)|nothing (?:changes|wrong|to (?:fix|change))|(?:so|"
    r"and|then|that) "
    r"(?:it's|that's|we're|all|everything is|is|we are|i'm) (?:\w{1,6} )?(?:fine|good|ok|okay|alright|all right|"
    r"consistent|safe)|(?:it|that|this|which)(?:'s| is| was) (?:already |indeed |"
    r"still )?(?:given|fine|ok|okay|all right|accounted|included|covered|consistent|what i (?:did|have|used))|"
    r"all good|as i (?:did|had|have)|"
    r"i (?:did|have already|already|do)\b|still (?:holds?|works?|fine|correct|right|valid|true|\d)|checks out|(?:is|"
    r"was) (?:indeed|fine|right after all)|"
    r"it's given|doesn't (?:matter|change)|does not (?:matter|change)|makes no difference|yes, (?:it|that|they|this)|"
    r"good, |same (?:answer|result|thing))"
)
