"""The ways in which a writer takes something back, by kind and not by wording: what makes up BACKTRACKING.

Each kind is a frame (who, which thing, what is said of it) over families of words. backtracking_cues holds the older
list. BACKTRACKS stand alone; behind MAY_BACKTRACK more text must follow, and no word that all is well (CONFIRMED).
"""

from __future__ import annotations

from dpr_mini.selection.cues import START

NUMBER = r"[\u20ac\u00a3$\\(]{0,3}-?\d[\d.,/:]{0,11}"
ITEM = (
    r"(?:approach|method|claim|conjecture|attempt|idea|guess|assumption|path|strategy|choice|substitution|formula|step|"
    r"answer|result|calculations?|computation|reasoning|equations?|value|solution|line|lists?|count|tally|totals?|sum|"
    r"figures?|signs?|expression|factors?|terms?|case|cases|casework|set-?up|bound|estimate|inequality|plan|comparison|"
    r"model|interpretation|reading|arithmetic|algebra|work|argument|proof|numbers?|ratio|rate|limits?|units?|version|"
    r"response|conclusion|statement|derivation|expansion|factori[sz]ation|diagram|picture|sketch|table|denominator|"
    r"numerator|exponent|product|difference|quotient|conversion|percentage|decomposition|route|construction|"
    r"simplification|induction|hypothesis|recurrence|integral|derivative|coordinates?|parametri[sz]ation|ordering)"
)
BAD = (
    r"(?:wrong|incorrect|off\b|flawed|faulty|mistaken|false|invalid|backwards?|upside down|reversed|inverted|flipped|"
    r"swapped|mixed up|muddled|garbled|bogus|nonsens\w{1,4}|broken|incomplete|a mess|shaky|rubbish|garbage|useless|"
    r"worthless|unusable|no good|no use|no help|premature|sloppy|careless|hasty|inconsistent|a mistake|mistakes?|"
    r"silly|overkill|tedious|impractical|infeasible|wasteful|not useful|at fault|a blunder|an error|in error|errors?|unjustified|illegal|circular|hopeless|pointless|misguided|unhelpful|"
    r"not (?:right|correct|valid|true|quite|what|the|how|legal|allowed)|"
    r"an? (?:bad|poor|terrible|wrong|wasted?|silly|unfortunate|dubious) \w{3,9}|the wrong \w{2,12}|too (?:crude|weak|hasty|"
    r"optimistic|strong|quick|generous|simple|naive|loose|rough|fast|long|short|many|few|big|small|large|high|low)\b)"
)
SELF = r"(?<!if )(?<!that )(?<!whether )(?<!unless )\b(?:i|we)(?:'ve|'d| have| had)?(?: (?!not\b|never\b|might\b|could\b|would\b|if\b)[a-z]{2,12}){0,2}?"
# What one does wrongly. A number behind it is a thing of the story: "we dropped 3 balls".
SLIPPED = (
    r"(?:mis[a-z]{3,12}(?:ed|t|d|took|k)|misread|mistook|forgot|forgotten|overlooked|neglected|over-?counted|under-?counted|"
    r"over-?estimated|under-?estimated|double[- ]?counted|botched|messed|screwed|slipped|goofed|blundered|muddled|mangled|"
    r"garbled|bungled|fumbled|flubbed|rushed|erred|conflated|confused|confounded|mixed|lost (?:a|an|the|track|sight|my|one) "
    r"(?!\d)(?:\w+ )?(?:branch|sign|factor|term|root|case|minus|track|unit|zero|digit|step|solution|count)|lost (?:track|"
    r"sight|count)|left (?:off|out|behind)|omitted|(?:stopped|started|began|quit|rounded|divided|subtracted|added|counted|"
    r"multiplied) (?:too|one (?:too|short)|twice|before i)|jumped (?:to|the gun|ahead|too)|went (?:too|one|wrong|astray|off)|"
    r"transposed|(?:never|didn't|did not|haven't|failed to|neglected to|should have|ought to have|was supposed to|shouldn't have|"
    r"should not have|needn't have|hadn't) (?:\w+ )?(?:account|allow|count\w{0,2}|divid\w{1,2}|multipl\w{1,3}|includ\w{1,2}|"
    r"consider\w{0,2}|subtract\w{0,2}|add\w{0,2}|notic\w{1,2}|carr\w{1,3}|us\w{1,2}|check\w{0,2}|read|convert\w{0,2}|"
    r"square\w?|distribut\w{1,2}|flip\w{0,3}|chang\w{1,2}|appl\w{1,3}|tak\w{1,2}|take|taken|look\w{0,2}|put|pay|paid|sort\w{0,2}|"
    r"revers\w{1,2}|double\w?|halv\w{1,2}|remember\w{0,2}|keep|kept|writ\w{1,4}|go|gone|done|do|start\w{0,2})|"
    r"(?:was|were|am|'m|got|am being|was being) (?:\w+ )?(?:too (?:hasty|quick|fast|greedy|careless|generous|eager|optimistic|"
    r"strict|early)|careless|sloppy|hasty|mistaken|confus\w{2,3}|wrong(?! by)|off by|overcounting|undercounting|"
    r"double[- ]counting|mixing|thinking of|assuming|treating|forgetting|ignoring|neglecting|missing|overlooking|mis\w{4,12}ing|"
    r"carried away|ahead of)|(?:'m|am|was|were|'ve been|have been|kept|keep) (?:\w{2,12}ing) [^.\n]{0,20}\b(?:wrong|twice|"
    r"backwards|upside|instead)\b)"
)
TURNED = (
    r"(?:flipped|backwards?|reversed|swapped|upside[- ]down|wrong|inverted|mixed up|muddled|turned a?round|"
    r"the (?:other|wrong) way|the wrong|switched|interchanged|transposed|in twice|listed twice|down twice)"
)
# An interjection that stands before a second thought: drawn out or not.
EXCLAIM = (
    r"(?:oo+ps|who+ps(?:ie)?|whoopsies|ar+gh|yikes|ouch|d'oh|doh|darn(?: it)?|dang(?: it)?|damn(?: it)?|drat|rats|crap|shoot|"
    r"gah|ack|ugh|bah|na+h|nah|nuh-uh|uh-oh|uh oh|oh dear|oh no|oh boy|er+m*|eh+|meh|pff+t?|tsk|sigh|yeah no|no wait|blast|gosh|silly me|"
    r"hold (?:your|my) horses|not so fast|back up|strike that|stop right there|belay that)"
)
MATH_VERB = (
    r"(?:compar|work|set|put|writ|start|begin|remov|delet|multiply|divid|add|subtract|count|do|go|look|pick|choos|let|factor|"
    r"expand|substitut|apply|solv|parametri[sz]|induct|integrat|differentiat|plac|draw|split|squar|isolat|eliminat|"
    r"bound|summ?|tak|us|try|consider|think|order|list|complet|reach|rais|treat|comput|calculat|condition|contract|"
    r"switch|turn|argu|express|keep|group|swap|measur|reduc|combin|plugg?|mov|examin|inspect|approach|rewrit|rearrang|cub|halv|doubl|simplif|list|enumerat|case)"
    r"(?:e|ing|s)?"
)
REJECT = (
    r"(?:can't|cannot|won't|doesn't|does not|isn't|is not|isn't allowed|out of the question|short of|too (?:small|big|large|high|low|few|many|"
    r"much|little|long|short|early|late)|over\b|exceeds?|negative|absurd|impossible|yet|fails?|failed|wrong|more than|less than|greater than|smaller than|bigger than|"
    r"not enough|never|odd one|taken|misses|missed|no good|\u2717|overshoots?|undershoots?|remainder)"
)
REPAIR = (
    r"(?:(?:one|two|a \w{3,8}|\d) (?:\w{3,9} )?(?:more|less|fewer)(?= ?(?:,|then|:|gives|makes))|(?:second|next|new|another|other) (?:guess|try|candidate|root|"
    r"option|value|choice|attempt|one|possibility)|this time|shift (?:\w{1,4} )?by|start (?:at|from|with) [a-z] =|up to|down to|next (?:is|up|comes))"
)
CLAIM_VERB = (
    r"(?:says?|said|states?|specif\w{2,5}|allows?|forbids?|excludes?|demands?|requires?|mentions?|stops?|divides?|"
    r"(?:has|have|had|gives?|gave|tells?|told|reads?|counts?|talks?|uses?|used|needs?|speaks?|refers?|means?|puts?|sets?|is|are|was))"
)
TEXT = r"(?:problem|question|text|statement|exercise|rules?|prompt|puzzle|task|story|wording|instructions?|diagram|table|hint)"
CANT = (
    r"(?:doesn't|does not|don't|do not|isn't|is not|isn't going to|is not going to|not going to|won't|will not|can't|cannot|"
    r"didn't|did not|fails to|refuses to|never)"
)

BACKTRACKS = (
    # Of oneself: what I did was a slip, or stands the wrong way round.
    rf"{SELF} {SLIPPED}\b(?! \d| nothing)",
    rf"\b(?:i|we)(?:'ve| have| had| got| put|'ve got| have got|'d| wrote| took| read| used| set)(?: [^\s.]{{1,14}}){{1,5}}? {TURNED}\b",
    r"\b(?:what (?:did|have|was|am) i (?:do|done|doing|thinking|even|just)|did i (?:just|really)|why (?:did|am|would) i\b)",
    rf"\b(?:one|some|both|all|something|part|half) (?:of|in) (?:my|our|these|those|the) (?:\w{{1,12}} )?{ITEM} "
    rf"(?:is|are|was|were|must be|has to be|looks?|doesn't|don't)(?: \w{{1,12}})? ?(?:{BAD}|n't|not)",
    # My thing is bad, or leaves out or counts in what it should not.
    rf"\b(?:my|our)(?: [\w'-]{{1,14}}){{0,3}} {ITEM}\b(?: [^\s.]{{1,14}}){{0,6}}? (?:is|was|are|were|has|had|have|looks?|must be|"
    rf"seems?|came out|comes out|went|goes|got)(?: [^\s.]{{1,14}}){{0,4}}? ?{BAD}",
    rf"\b(?:my|our) (?:\w{{1,12}} )?{ITEM}\b(?: [^\s.]{{1,14}}){{0,6}}? (?:{CANT} (?!have)\w|tells? (?:me|us) nothing|ignore[sd]?|forg[eo]ts?|"
    r"leaves? out|left out|assume[sd]|misse[sd]|counts|counted|double|applie[sd]|include[sd]|overcount|undercount|skip|drop|need(?:s|ed) "
    r"(?:fixing|repair|correct|chang|adjust|a fix)|only (?:covers?|works?|holds?|counts?))",
    rf"\b(?:the|that|this) (?:\w{{1,14}} )?{ITEM} (?:that |which )?i(?:'ve| have| had)? (?:\w{{1,9}} )?(?:quoted|wrote|written|used|set|gave|given|"
    rf"took|taken|computed|found|called|read|picked|chose|had|put|made|started|just|drew|applied|derived)\b(?: [^\s.]{{1,14}}){{0,5}}? "
    rf"(?:belongs?|applies|doubles?|counts|assume[sd]|twice|ignore[sd]?|uses|{CANT}|overcounts?|includes|leaves|misses|should|{BAD}|"
    r"is for|was for|is the|was the)\b",
    rf"\b[a-z]{{3,12}}ing (?:[^\s.]{{1,14}} ){{0,5}}?(?:was|were|is) (?:\w{{1,9}} )?{BAD}",
    rf"\b(?:previous|earlier|last|above|first|initial|original) (?:\w{{1,12}} )?{ITEM}\b(?: [^\s.]{{1,14}}){{0,4}}? "
    rf"(?:forg[eo]ts?|was (?:{BAD}|missing|based)|is {BAD}|had (?:an|the|a) (?:\w{{1,12}} )?(?:error|mistake|wrong|slip)|contain\w{{1,3}} "
    r"(?:an|a) (?:\w{1,12} )?(?:error|mistake)|misses|missed|omit\w{1,4}|ignore[sd]?|left out|doesn't|didn't|"
    r"overcount|double|won't|can't|assumed)",
    rf"\b(?:error|mistake|slip|bug|flaw|blunder|typo|oversight|confusion|mix-?up|inconsistency|gap|hole|hitch|snag|catch) "
    r"(?:is |was |lies |crept |sits |sneaked |snuck )?(?:in (?:my|our|the (?:step|line|last|previous|above|first|second|third|sign|"
    r"algebra|arithmetic))|on my|of mine)\b",
    r"\b(?:an?|one|my|the|that) (?:\w{1,12} )?(?:slip|blunder|oversight|goof|typo|mix-?up|arithmetic error|sign error|off-by-one|"
    r"miscount|misprint|copying error|transcription error|calculation error)\b(?! (?:rate|of \d))",
    r"\b(?:apologi[sz]e|apologies|pardon me|my fault|mea culpa|forgive me|sorry about|sorry for|my apolog\w{1,5})\b",
    # It is said again in its right form.
    r"\((?:revised|corrected|amended|fixed|redone?|redo|take (?:2|two)|second (?:try|attempt|go)|try (?:2|two|again)|again|v2|retry)\)",
    rf"{START}(?:(?:step|part) \d{{1,2}}[^\w\n]{{1,3}})?(?:revised|corrected|amended|fixed|redone?|re-?do|edit|erratum|fix|"
    r"fixing|correcting|amending|retry|retrying|repaired|take two|take 2|try again|second (?:try|attempt|go)|attempt (?:2|two|#2)|"
    r"new (?:try|attempt|plan|start|idea)|clean (?:start|slate)|fresh (?:start|try|attempt))\b[^.=\n]{0,30}[:,.!]",
    r"\b(?:the|its|my|our) (?:real|proper|corrected|amended|revised|repaired|fixed|correct(?! (?:answer|option|choice|response|"
    r"solution|to|number of))|right(?! (?:side|hand|answer|option|triangle|angle|choice|-|to|end|column|half))) "
    rf"(?:\w{{1,12}} )?{ITEM} (?:is|are|should|would|must|has to|comes|becomes|reads|=|:|then)",
    rf"\b(?:so|it's|it is|be|gives|give|that's|get|gets|makes?|making|total|need|to|becomes?|takes?|only|just) (?:only |just )?"
    rf"{NUMBER}(?: [a-z]{{1,12}}){{0,2}}?,? (?:rather than|instead of|and not|not) (?:the )?{NUMBER}(?! [-+*/=])",
    rf"\bnot (?:the )?{NUMBER}(?: [a-z]{{1,10}})?,? but (?:rather |only |just |actually )?{NUMBER}(?![\d.]| ?[-+*/\u00d7])",
    rf"\b(?:so |and |then |, |- |better )?(?:make|call|let's make|let's call|change|correct) (?:that|it)(?: to| down to| up to| down)? (?:an? )?{NUMBER}(?![\d.]| ?[-+*/\u00d7])",
    r"\b(?:it|that|this|he|she|which|line|equation|there|step) (?:really |actually |surely )?(?:should|ought to|must) (?:really |actually |just |only )?"
    r"(?:have been|read|say|be)\b [^.\n]{1,40}(?:,? (?:not|rather than|instead of)\b|\. (?:then|so|now|with|hence|redo))",
    r"\b(?:what|the one|that) i (?:have|had|wrote|got|said|did|used|put|claimed|computed)(?: [^\s.]{1,14}){0,4}? (?:doesn't|does not|can't|cannot|won't|"
    r"isn't|wasn't|is wrong|was wrong|no longer|falls|fails|collapses|breaks)",
    r"\b(?:doesn't|does not|can't|cannot|won't|no longer) (?:stand|hold up|hold water|survive)\b(?! (?:on|in|by)\b)",
    # Thrown away.
    rf"(?:{START}|\b(?:let me|let's|let us|i'll|i will|i'm|we'll|we|i|so|now|better|must|to|and) )(?:then |just |therefore |now )?"
    r"(?:throw|throwing|toss|tossing|chuck|chucking|bin|binning|ditch|ditching|scrap|scrapping|dump|dumping|shelve|shelving|"
    r"abandon|abandoning|discard|discarding|drop|dropping|erase|erasing|delete|deleting|cross|crossing|strike|striking|"
    r"retract|retracting|withdraw|withdrawing|leave|leaving|rub|rubbing|wipe|wiping|set|setting|put|putting|give up|giving up) "
    rf"(?:on )?(?:it|this|that|these|those|them|everything|all (?:of )?(?:that|this|it)|(?:my|the|this|that) (?!(?:negative|extraneous|positive|other|second|invalid) )(?:[\w-]{{1,14}} ){{0,2}}{ITEM})\b"
    r"(?: (?:out|away|aside|over|off|clean|and|altogether|again|for)|[.;,:])(?! (?:he|she|they)\b)",
    rf"\b(?:pull|pulling|back|backing|bail|bailing|step|stepping) (?:out|away|off|back|down)(?: of| from| on)? "
    rf"(?:this|that|it|the|here)(?: [\w-]{{1,14}}){{0,2}} ?(?:{ITEM}|[;:.,])",
    r"\bout (?:it|they|that|this) goes?\b|\b(?:that|this|it|\d{1,5}) (?:one )?(?:goes out|has to go|must go(?=[.,;:!])|gets crossed|gets struck|"
    r"is thrown out|is disqualified|is ruled out|is eliminated)(?: of (?:my|the|our) list)?\b",
    r"\b(?:drops|falls|goes|comes) (?:out|off) (?:of )?(?:my|our) list\b",
    r"\b(?:start|starting|begin|beginning|try|trying|do|doing|redo|once more|over) (?:it |this |that |everything |all )?"
    r"(?:afresh|fresh|anew|all over|from scratch|from the top|from square one|over again|over)\b(?! (?:the|a|\d|with \d))",
    r"\bback to (?:square one|the drawing board|step one|scratch)\b|\b(?:change|switch) of (?:plan|tack|strategy|approach)\b|"
    r"\bplan b\b|\bnew plan\b|\bclean slate\b|\bregroup\b(?! the)|\b(?:write|writing|make|making|set up|setting up|draw|drawing|try|trying) (?:up )?"
    r"(?:a )?(?:fresh|new) one\b",
    # The way leads nowhere, or is worse than another.
    r"\b(?:that|this|it|which)(?:'s| is| was| gets| got| looks| seems| would be| becomes| turned out)(?: [a-z]{1,9}){0,2}? "
    r"(?:worse|uglier|messier|harder|nastier|more (?:complicated|difficult|complex) than|no (?:better|simpler|easier|nicer|shorter)|not (?:any|much) "
    r"(?:better|simpler|easier|nicer|help)|hopeless|useless|pointless|unhelpful|awkward|horrible|awful|overkill|unproductive|"
    r"circular|a (?:mess|waste|trap|pain|nightmare|slog|blind alley|detour|bad \w{3,9}|poor \w{3,9}|red herring)|getting (?:us|me)? ?nowhere|"
    r"not (?:promising|productive|fruitful|useful|leading|getting|going|helping))\b",
    r"\b(?:worse|uglier|messier|harder|longer) than (?:before|what (?:we|i)|where (?:we|i)|the (?:original|one (?:we|i)))\b",
    r"\b(?:bad|poor|terrible|wrong|unlucky|dubious) (?:call|idea|choice|pick|tool|move to)\b(?! (?:by|from))|\b(?:i|we) (?:went|was|were|am|are|go|took) (?:\w{1,5} )?(?:down|on|up) (?:the|a) wrong",
    rf"\b(?:this|that|it|which|approach|method|route|hypothesis|comparison|argument|substitution|bound|test|trick|induction|attempt|idea) "
    rf"(?:just |simply |really |still |alone )?{CANT} (?:(?!be )\w{{1,9}} )?(?:close|help(?! (?:him|her|them))|fly|lead|buy (?:me|us)|bring (?:me|us)|get (?:me|us)|tell|"
    r"give (?:me|us)|pan out|go through|hold up|do it|do the|reach|simplif\w{1,3}|cover|terminat\w{1,2}|pay|suffice|carry over|add up|"
    r"make sense|square with|work out|yield|settle|decide|apply here|apply\b(?= [.;,])|fit (?:the|with)|go anywhere|conclude)\b",
    r"\b(?:tells?|told|gives?|gave|gets?|got|buys?|says?) (?:me|us) (?:absolutely |almost )?(?:nothing|nowhere|no (?:information|closer))\b",
    r"\btoo many (?:unknowns|cases|variables|branches|terms|possibilities|subcases|options|letters)\b|\btoo (?:much|long) (?:casework|to (?:list|check|expand|"
    r"enumerate|do|compute|write) )",
    r"\b(?:i'm|i am|we're|we are|i got|now i'm|gets me|got me|leaves me|getting) (?:\w{1,9} )?(?:stuck|lost|nowhere|bogged|tangled)\b|\bhit(?:ting)? a (?:wall|snag|"
    r"dead|brick)|\b(?:blind alley|cul-de-sac|wild goose|rabbit hole|spinning my|barking up|non-?starter|lost cause|wasted effort|no headway|"
    r"no progress)\b|\b(?:not (?:getting|making|leading|going) (?:me |us |any )?(?:anywhere|progress|headway))\b",
    r"\b(?:goes|went|points|runs|moves?|is going|going|is|come out|comes out) (?:in )?(?:the )?(?:wrong|opposite) (?:direction|way(?! (?:a?round )?from))\b",
    rf"{START}(?:so |then |now |ok(?:ay)?,? |let me |let's |i'll |we'll |i |we |better |perhaps |maybe )*?{MATH_VERB}\b [^.\n]{{1,70}} instead(?=[.:,;!]|$)",
    rf"{START}(?:so |then |now )?instead,? (?:let|i\b|we\b|{MATH_VERB}\b)",
    rf"\b(?:if|let me|let's|i'd|i'll|we'll|i can|we can) (?:\w{{1,9}} )?{MATH_VERB} [^.,\n]{{1,40}} instead\b(?! of)",
    r"\b(?:i'd|i would|we'd|i'll) (?:much )?(?:rather|better|prefer to) (?:\w{1,9} )?(?:start|use|work|go|try|do|take|set|write|count|begin|look|think)\b",
    # A new look at the text, and what it says against what I had.
    rf"{START}(?:(?:ok|okay|oh|ah|so|but|now|hmm+),? )?(?:(?:on )?re-?reading|looking (?:back|closer|more closely)|in hindsight|in retrospect|come to think of it|"
    r"now that i think|thinking about it (?:again|more)|on (?:inspection|review|second (?:reading|look|thoughts?))|reading (?:more )?(?:carefully|closely)|"
    r"with a second look|a second look|a closer look|second thoughts?)\b",
    rf"\b(?:i|my|i've|i'd|i'm)\b [^\n]{{1,90}}?\b(?:but|whereas|while|yet|though|however,?) (?:\w{{1,9}} )?(?:the|our|this) {TEXT} (?:\w{{1,9}} )?{CLAIM_VERB}\b",
    rf"\b(?:hmm+|wait|no|off|wrong|oh|ah|uh)\b[^\n]{{1,70}}?\b(?:and|but|whereas|while|yet) (?:the|our|this) {TEXT} (?:\w{{1,9}} )?{CLAIM_VERB}\b",
    r"\b(?:wasn't|weren't|hadn't been|was not|were not|isn't) [^.\n]{1,30} when i\b|\bwhen i (?:should|ought|meant|was supposed|shouldn't)\b",
    r"\b(?:i|we)(?:'ve|'d| have| had)? (?:gave|took|used|added|counted|put|wrote|treated|read|set|called|assumed|allowed|charged|paid|included|made) [^.\n]{1,40} (?:when|whereas|while|although|though) "
    r"(?:he|she|it|they|there|only|the|that|this|in fact)\b(?= [^.\n]{1,40}(?:has|have|is|are|was|were|had|only|should|said|says|stop|n't|not|per)\b)",
    # A result that is doubted as it stands there.
    rf"(?:^|(?<=[.!?:\n] ))(?!(?:is|are|does|do|what|how|why|can|could|which|should|if|who|when|where|was|did|will|would|has)\b)[^.?\n=]{{0,90}}[^?\n=]= ?"
    rf"{NUMBER}(?: [a-z%]{{1,12}}){{0,2}} ?\?+(?!\?)(?= |$)(?! ?(?:yes|yep|yeah|right|correct|good|that works|ok|indeed|it is|exactly|true|sure|ok))",
    # Broken off in the middle and turned: by dots, a dash or a short outcry behind a result.
    r"\w ?(?:\.\.\.|\u2026) ?(?:except|but|no\b|not\b|that's|that is|wait|hm+\b(?! so)|should|actually|only\b|or rather|i\b(?!\.)|is that|and yet|though|oh|uh|ah|sorry|er\b|nope|make that|"
    r"(?=[^.\n]{1,45}\b(?:should|not|actually|only|don't|doesn't|isn't|aren't|can't|rather)\b)|(?=(?:[a-z]{3,12} ){1,2}(?:have|has|are|is) (?:an? )?\d))",
    r"\w ?(?:--|[-\u2013\u2014]) ?(?:no\b(?=,| wait)|er\b(?=[ ,])|well, |wait|sorry|or rather|i mean|make that|scratch|correction|oops|actually|that is wrong|not \d)",
    r"\d(?: [a-z/]{1,12}){0,3}[.?] (?!(?:let|here|great|so|now|aha|and|happy|good|we|yes|sure|that's it|done|nice|perfect|exactly|correct|right|easy|voila|hooray|success|bingo|thus|hence|"
    r"awesome|excellent|wonderful|what a|how|it works|fits|it fits|enjoy|hope|check)\b)[a-z][^.!?\n]{2,32}! (?=[^\n]{0,80}\d)",
    r"[.;,:] (?!(?:is|are|does|do|what|how|why|can|could|which|should|if|who|when|where|was|did|will|would|has|and|any|the|so)\b)[a-z\d$-][^.?!,;:\n=]{0,18}\? (?=the (?:problem|text|question|story) |(?:but|no\b|not\b|there|it's the|i\b|"
    r"nobody|that's (?:more|less|too|not|the)|that (?:can't|isn't|would))|(?:a|an) \w)(?=[^\n]{0,90}\d)",
    # Told in the pluperfect, or pointed at: what one had done, what happened.
    r"(?<=[.!?;:] )(?:i'd|i had|i've) (?:\w{3,9} )?(?:counted|added|used|put|taken|divided|multiplied|included|subtracted|assumed|thought|set|read|written|swapped|got|left|solved|computed|"
    r"treated|applied|kept|rounded|copied|squared)\b",
    r"\d[^.\n]{0,25}[.!?;:,] (?:oh,? |ah,? )?i (?:just )?(?:added|divided|multiplied|used|subtracted|counted|took|squared|doubled|halved|treated|applied|solved|computed|summed|measured) "
    r"(?:[^.\n]{1,25} )?(?:where|when|from the|for the wrong|by the (?!\w+ of)|as if|instead|but|too|both|once more|twice|in place|the \S{1,9} (?:from|of the wrong|but|for))\b",
    r"\b(?:i|we) (?:can )?(?:now )?(?:see|know|spot|get|found|notice|understand) (?:now )?(?:what (?:happened|went|is wrong|i did|i missed|was wrong|the problem)|the (?:catch|trap|glitch|hitch|snag|culprit|bug)|why (?:it|that|this))\b",
    r"\bas i (?:claimed|said|wrote|did|had|assumed|thought|have)\b(?=[^.\n]{0,30}(?:,? because|,? since|: ))|\b(?:and|but|which|when|where) (?:it |that |this |they |i )?(?:shouldn't|should not|oughtn't)\b",
    r"\bis what (?:i (?:need|needed|want|wanted|should)|should have|we (?:should|needed))\b|\bwas (?:supposed|meant) to (?:be|multiply|add|use|subtract|divide)\b",
    rf"\bmy (?:\w{{1,12}} )?{ITEM}\b [^.\n]{{3,60}}\b(?:though|but|while|whereas|although|yet|instead of)\b",
    rf"\b{REJECT}\b[^\n]{{1,80}}?(?:\. |; |, |: )(?:so |then |hence |with |the |now |take |try |let's )?{REPAIR}\b",
    r"\b(?:let me|let's|i'll|again|redo|now) (?:[^\s.]{1,12} ){0,4}(?:out )?(?:properly|correctly|the right way|right this time|more carefully|honestly|for real|with more care)\b",
    rf"{START}(?:not (?:useful|helpful|good enough|promising|quite|what i|what we|nice|pretty|allowed|possible|so simple|so easy)|no use|useless|hopeless|pointless|silly)\b(?=[.,;:!]| of)",
    rf"{START}(?!(?:yes|so|as|what|how|and|that is|well|there|ok|here|whatever|whether|than)\b)[a-z][a-z' -]{{3,60}}(?<!what)(?<!how)(?<!as)(?<!so)(?<!whether)(?<!than)(?<!where)(?<!much)(?<!many)(?<!old)(?<!that) it is(?:[.!:]|$)",
    rf"{START}correction\b(?! (?:fluid|pen|tape|factor|term))|\bthe wrong (?:pair|line|row|column|number|sign|way|order|formula|units?|operation|direction|triangle|angle|side|factor|value|base|case|"
    r"variable|figure|exponent|equation|quantity|thing|digit|rate|root|height|radius|term|place|ratio|total|sum|end of|fraction|person|one\b)(?! (?:was|is|on the|home))",
    r"\?\?+ (?=\w)|\b(?:lol|haha|facepalm|wtf)\b",
    rf"\b(?:yet|but|though|where) (?:\w{{1,10}} ){{0,3}}(?:has|have|had|needed?|needs|was needed|should be|must be|expected|wanted|was wanted)(?: only| just)? {NUMBER}\. "
    r"(?:\w{1,9} )?(?:one|two|so|then|that|make|take|less|more|let|try|subtract|add|too)\b",
)
_TRIED = r"(?:no\b|nope|short|over\b|fail\w{0,3}|too \w{3,6}|doesn't|does not|isn't|is not|not |out\b|overshoots?|undershoots?|bust|impossible|nothing|won't|can't|less than|more than|\u2717)"
# A candidate, why it falls, and the next value of the same letter.
CANDIDATES = (
    rf"\b(?:try|trying|take|test|say|guess|suppose|with|if|for|let) (?P<x>[a-z]) ?= ?\d{{1,5}}\b[^\n]{{1,90}}?\b{_TRIED}[^\n]{{0,90}}?\b(?P=x) ?= ?\d",
    rf"\b(?:try|trying|test|testing|guess) {NUMBER}\b[^\n]{{1,70}}?\b{_TRIED}[^\n]{{0,60}}?(?:\b(?:try|next|then|now|so|take)\b|[.;:,]) ?{NUMBER}",
)
BACKTRACKS += CANDIDATES
EASIER = r"(?:easier|simpler|cleaner|neater|quicker|smarter|cleverer|nicer|shorter|more direct|more elegant)"
HORRID = r"(?:horrible|ugly|messy|nasty|awful|hideous|unmanageable|unpleasant|out of hand|hairy|gross|monstrous|horrendous|painful|unbearable|hopeless)"
BACKTRACKS += (
    # A check that fails.
    rf"(?:{START}|\b(?:let me|let's|i'll|we) )(?:\w{{1,9}} )?(?:re-?check|check|verify|test|plug|substitut|try)\w{{0,4}}\b[^\n]{{1,80}}?(?:\u2260|\\neq?\b|\bthe (?:table|text|problem|list|statement) (?:says|has|gives|shows)|\b(?:but|which) should "
    r"(?:be|have been|equal|give)|\b(?:doesn't|does not|didn't|don't|isn't|is not) (?:match|equal|hold|fit|agree|satisf\w{1,3}|come out|add up|give|\d))",
    rf"{START}(?:oh|ah|hah?|gosh|hey)[,!:] (?!(?:let me|so\b|okay|ok\b|what|how|nice|good|great|right|yes|(?:that's|that is|it's|it is|this is) (?:\w{{1,9}} )?(?:nice|easy|simple|fun|good|great)))(?=[^\n]{{0,120}}\d)",
    rf"{START}(?:so |ok(?:ay)?,? |then )?(?:forget|ditch|scrap|abandon|scratch|discard|never mind|skip|shelve) (?!to\b|it's|he|she|they|her|his|their|\d)[a-z]",
    # Another way is better, or this one costs too much.
    rf"\b(?:an?|some|the|any) (?:much |far |even )?(?:{EASIER}|better) (?:argument|way|route|proof|method|approach|idea|path|start|plan|trick|tool|angle|line of attack)\b(?! (?:to school|home))",
    rf"\b(?:hmm+|maybe|perhaps|actually|but|however|though|{HORRID})\b[^\n]{{1,90}}?\b(?:is|it's|it'd be|would be|be|seems|looks) (?:\w{{1,6}} )?{EASIER}\b",
    rf"\b(?:get|gets|getting|look|looks|are|is|becomes?|turns?|got|grows?) (?:\w{{1,9}} )?(?:{HORRID})\b(?=[.,;:!]| (?:fast|quickly|here|very))",
    r"\b(?:lead|leads|leading|turns?|turning|blows?|blowing|degenerat\w{1,3}|ends? up|ending up|descends?|runs?|running|spirals?) (?:us |me |up )?(?:to|into|in|as) (?:an? )?(?:\w{1,9} )?(?:swamp|mess|jungle|nightmare|dead|ugly|monsters?|nasty|horrible|horrors?|"
    r"morass|tangle|quartic|endless|infinite (?:loop|regress)|circle|circular|case ?work|wall|trouble|quagmire)",
    r"\bbut (?:then|that|this|it|doing (?:so|that)) (?:we |i |it |that )?(?:'d |would |will |also )?(?:picks?|introduces?|los(?:es?|ing)|creates?|over-?counts?|ignores?|misses|runs? into|includes?|allows?|neglects?|forgets?|leaves? out|assumes?|presuppos\w{1,2}|double)\b",
    r"\b(?:that|this|it|which) (?:\w{1,9} )?(?:ignores|neglects|overcounts|undercounts|double[- ]counts|leaves out|forgets|disregards|overlooks|presupposes|begs the question)\b",
    r"\b(?:over-?complicat|over-?think)\w{1,4}\b|\b(?:fall|falling|fell) back (?:on|to)\b|\b(?:let me|let's|we|i|i'll|to) (?:\w{1,9} )?(?:resort|revert|retreat|pivot) to\b",
    rf"{START}(?:maybe|perhaps|could (?:we|i|it be)|what about|how about) [^.?\n]{{1,60}}\? [^\n]{{0,80}}?(?:n't\b|\b(?:not|no|but|too|{HORRID[3:-1]}|fails?|wrong|only|never)\b)",
    rf"\b(?:the|that|this) (?:\w{{1,12}} )?{ITEM} (?:is|was|turns out|seems|looks|proves)(?: to be)?(?: \w{{1,9}})? (?:too (?:crude|weak|strong|loose|messy|restrictive|rough|coarse|vague)|not (?:sharp|strong|tight|good) enough|insufficient|hopeless|useless|pointless|"
    r"a dead|circular|flawed|bogus|faulty|invalid|reversed|flipped|backwards|upside down|swapped|inverted|the wrong|the other way|mixed up|at fault|to blame)\b",
    # What I took to be so is not; it is one thing and not the other.
    r"\bi (?:\w{1,9} )?(?:claimed|said|assumed|thought|believed|figured|guessed|supposed|expected|hoped|was hoping|took for granted|took it)\b[^\n]{1,90}?(?:n't\b|\b(?:not|but|no|too|only|instead|wrong|false)\b)",
    r"\b(?:more|less|fewer|[a-z]{3,8}er), not (?:more|less|fewer|[a-z]{3,8}er)\b|\b(?:i mean|i meant)[.,:;!]|\bis what (?:belongs|counts|matters|goes)\b|\bi (?:shouldn't|should not|mustn't|ought not to|can't just|cannot just|had no right to) \w",
    r"\d[^\n]{0,90}[.;,] (?:it's |that's |so |because )?(?:they |you |we |i )?(?:\w{1,12} ){0,2}(?:plus|minus|times|add|subtract|multiply|divide|sine|cosine|radius|diameter|area|perimeter|hours?|minutes?|seconds?|cents?|dollars?|days?|weeks?|centimet\w{2,3}|met\w{2,3}|rows?|"
    r"columns?|product|sum|difference|ratio|union|intersection|odd|even|permutations?|combinations?|squared?|cubed?|inclusive|exclusive|degrees|radians|with|without|before|after|half|double|twice|maximum|minimum|pounds?|kilos?|grams?|feet|inches), not (?:an? |the |by |in |to )?[a-z]{2,12}\b",
    r"\b(?:you|we|one|he|she|they|there) (?:can't|cannot|can't) (?:have|be|buy|get|sell) (?:an? )?(?:\d+\.\d+|half (?:an? )|negative|fraction\w{0,3}|-\d|minus \d|\d+/\d+)\b[^\n]{0,60}?\b(?:so i|so the|must|wrong|mistake|back|recheck|again|check|should)\b|\bcomes? (?:only )?in wholes?\b",
    r"\b(?:that|this|which|it)(?:'s|'d be|'d make| is| would be| makes| would make| gives| comes out)[^.\n]{0,30}\b(?:more|larger|bigger|greater|longer|heavier|older|higher|less|smaller|shorter|lower|younger|cheaper|pricier|faster|slower) than (?:the (?:whole|total|entire|full|sum|maximum|mother|father|"
    r"hypotenuse|class|box)|all\b|everything|100 ?%|it should|(?:is )?possible|(?:he|she|they|we) (?:had|have|has|started)|there are|1\b(?=[,.!]))",
    r"\b(?:with (?:that|this) (?:fixed|corrected|repaired|sorted|cleared up|mended)|after (?:(?:fixing|correcting) (?:that|this)|that (?:fix|correction))|once (?:that's |that is )?(?:fixed|corrected))\b|\bthat (?:changes (?:things|everything|the)|alters|ruins|spoils|invalidates|kills)\b|"
    r"\b(?:it |as it )?turns? out (?:that )?(?:i|we (?:had|have|were|did|used|missed)|not|(?:this|that|it) (?:isn't|wasn't|is not|doesn't|does not|won't|fails))\b|\b(?:that's|that is|this is|it's|that isn't|this isn't) (?:not )?how (?:i|it|that|this|one)\b",
    rf"{START}(?:(?:let me |let's )?(?:stop|pause)|reading (?:once more|on|it once)|looking at (?:it|this|the \w{{1,10}}) (?:again|once more)|another look|not (?:an? )(?:integer|whole|natural|valid|option|solution|square|perfect|prime|fit|match))\b[^.,:;!\n]{{0,20}}[.,:;!]",
    rf"(?<=[.!?;] ){NUMBER}(?: [a-z]{{1,12}}){{0,2}},? then(?=[.,;])|\b(?:so|and|but) [^.,\n]{{1,40}} (?:really|in truth|in reality)(?=[.;])",
)

BACKTRACKS += (
    # Of what was written down, and of oneself.
    r"\bi(?:'d|'ve| had| have)? (?:typed|copied|keyed|jotted|mistyped)\b|\bi(?:'d| had) (?:written|put|typed|entered|noted|plugged)\b",
    r"\b(?:correct(?:ed|ing)?|contradict\w{0,3}|fool\w{0,3}|kidding|ahead of|confus\w{1,3}|trick\w{0,3}|stop|catch|caught|trip\w{0,4}) (?:myself|ourselves)\b|\bon my (?:side|part|end)\b(?! of)",
    r"\b(?:isn't|is not|wasn't|aren't|not) (?:really |quite |actually |at all )?(?:legitimate|justified|legal|warranted|sound|permissible|kosher|appropriate|as simple|that simple|so simple)\b",
    r"\b(?:achieves?|accomplish\w{0,2}|gains?|gained|buys?|yields?|does) (?:us |me )?(?:exactly |absolutely )?nothing\b|\b(?:back )?(?:to )?where (?:it was|we were|i was|(?:we|i|it) (?:started|began))\b(?=[.,;:!])|\btak(?:es|ing) (?:ages|forever|too long)\b",
    rf"\bthere(?:'s| is) (?:an? |the |some )?(?:\w{{1,9}} )?(?:factor|term|sign|step|case|minus|root|zero)(?: of \S{{1,6}})? missing\b|\b(?:is|are|was|were) missing (?:from|in) (?:my|our|the (?:sum|list|count|equation|total|formula))\b",
    r"\b(?:pattern|rule|formula|guess|argument|induction|conjecture|idea|assumption|analogy|bound|claim)s? (?:breaks?|broke|fails?|falls apart|collapses?|stops|doesn't (?:hold|continue|extend)|is broken|gives out|crumbles|runs out)\b",
    r"[.?;] (?:[a-z]{3,9}er|more|less|fewer) than [^.?\n]{2,25}\? |\bwhy (?:the )?\d{1,6}\?|\b(?:let me|let's|i'll|i should|i need to|i must) (?:\w{1,9} )?(?:look|think|read) (?:[^\s.]{1,12} ){1,5}again\b",
    r"\b(?:was|were|is|are) (?:already )?(?:included|counted|subtracted|added|in there|accounted)[^.\n]{0,25}\b(?:already|both times)\b|\b(?:so|hence|thus) [a-z] (?:isn't|is not|can't be|cannot be|\u2260) \d[^\n]{0,25}\b[a-z] ?= ?\d",
    rf"\b(?:but|while|whereas|yet) (?:we|i|it|they) (?:only )?(?:need|needed|want|wanted|were (?:after|promised)|are after|should (?:have|get|be)|must (?:have|get|be)|expected?) {NUMBER}(?=[.;])",
)

MAY_BACKTRACK = (
    rf"(?:{START}|[,;\u2026] )(?:(?:oh|ah|but|ok|okay|well|and|no),? )?(?:{EXCLAIM}|wa{{2,9}}i+t+|wai+t{{2,9}}|no+pe|no{{2,9}}|u+h+|u+m+|huh|whoa)"
    r"(?:[,.!\u2026]{1,3}| ?[-\u2013\u2014]{1,2}) ?(?=\S)(?!(?:let me (?:see|think)|so (?:we|the|i)|okay|ok\b|we have|what|how|nice|good|great|i see(?! now)|right|yes|(?:that's|that is|it's|it is) (?:nice|easy|simple|just|"
    r"fun|a nice|simple)))",
    rf"{START}actually,? (?:that|this|it|the|i|we|no|there|hold|wait|since|because|each|every|\d|only|not)",
)
# All is well after all: what follows a doubt and takes it away.
CONFIRMED = (
    r"\b(?:stands|(?:answer|result|total|value|it|that|this|\d) (?:still )?stays|as i (?:said|claimed|thought|did|had|have|wrote)|no (?:changes?|harm|worries|correction)|nothing (?:changes|wrong|to (?:fix|change))|(?:so|and|then|that) "
    r"(?:it's|that's|we're|all|everything is|is|we are|i'm) (?:\w{1,6} )?(?:fine|good|ok|okay|alright|all right|consistent|safe)|(?:it|that|this|which)(?:'s| is| was) (?:already |indeed |"
    r"still )?(?:given|fine|ok|okay|all right|accounted|included|covered|consistent|what i (?:did|have|used))|all good|as i (?:did|had|have)|"
    r"i (?:did|have already|already|do)\b|still (?:holds?|works?|fine|correct|right|valid|true|\d)|checks out|(?:is|was) (?:indeed|fine|right after all)|"
    r"it's given|doesn't (?:matter|change)|does not (?:matter|change)|makes no difference|yes, (?:it|that|they|this)|good, |same (?:answer|result|thing))"
)
