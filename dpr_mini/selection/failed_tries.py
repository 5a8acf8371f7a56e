"""Backtracking by kind, second part: candidates, checks and ways that fail, and the better way taken for them.

The words for what one did oneself are in backtracking_kinds.
"""

from __future__ import annotations

from dpr_mini.selection.backtracking_kinds import ITEM, NUMBER
from dpr_mini.selection.cues import START

_TRIED = (
    r"(?:no\b|nope|short|over\b|fail\w{0,3}|too \w{3,6}|doesn't|does not|isn't|is not|not |out\b|overshoots?|"
    r"undershoots?|bust|impossible|nothing|won't|can't|less than|more than|\u2717)"
)
# A candidate, why it falls, and the next value of the same letter.
_CANDIDATES = (
    r"\b(?:try|trying|take|test|say|guess|suppose|with|if|for|"
    rf"let) (?P<x>[a-z]) ?= ?\d{{1,5}}\b[^\n]{{1,90}}?\b{_TRIED}[^\n]{{0,90}}?\b(?P=x) ?= ?\d",
    rf"\b(?:try|trying|test|testing|guess) {NUMBER}\b[^\n]{{1,70}}?\b{_TRIED}[^\n]{{0,60}}?(?:\b(?:try|next|then|"
    rf"now|so|take)\b|[.;:,]) ?{NUMBER}",
)
EASIER = r"(?:easier|simpler|cleaner|neater|quicker|smarter|cleverer|nicer|shorter|more direct|more elegant)"
HORRID = (
    r"(?:horrible|ugly|messy|nasty|awful|hideous|unmanageable|unpleasant|out of hand|hairy|gross|monstrous|"
    r"horrendous|painful|unbearable|hopeless)"
)
BACKTRACKS = (
    *_CANDIDATES,
    # A check that fails.
    rf"(?:{START}|\b(?:let me|let's|i'll|we) )(?:\w{{1,9}} )?(?:re-?check|check|verify|test|plug|substitut|"
    rf"try)\w{{0,4}}\b[^\n]{{1,80}}?(?:\u2260|\\neq?\b|\bthe (?:table|text|problem|list|statement) (?:says|has|"
    r"gives|shows)|\b(?:but|which) should "
    r"(?:be|have been|equal|give)|\b(?:doesn't|does not|didn't|don't|isn't|is not) (?:match|equal|hold|fit|agree|"
    r"satisf\w{1,3}|come out|add up|give|\d))",
    rf"{START}(?:oh|ah|hah?|gosh|hey)[,!:] (?!(?:let me|so\b|okay|ok\b|what|how|nice|good|great|right|yes|(?:that's|"
    rf"that is|it's|it is|this is) (?:\w{{1,9}} )?(?:nice|easy|simple|fun|good|great)))(?=[^\n]{{0,120}}\d)",
    rf"{START}(?:so |ok(?:ay)?,? |then )?(?:forget|ditch|scrap|abandon|scratch|discard|never mind|skip|"
    r"shelve) (?!to\b|it's|he|she|they|her|his|their|\d)[a-z]",
    # Another way is better, or this one costs too much.
    rf"\b(?:an?|some|the|any) (?:much |far |even )?(?:{EASIER}|better) (?:argument|way|route|proof|method|approach|"
    r"idea|path|start|plan|trick|tool|angle|line of attack)\b(?! (?:to school|home))",
    rf"\b(?:hmm+|maybe|perhaps|actually|but|however|though|{HORRID})\b[^\n]{{1,90}}?\b(?:is|it's|it'd be|would be|"
    rf"be|seems|looks) (?:\w{{1,6}} )?{EASIER}\b",
    rf"\b(?:get|gets|getting|look|looks|are|is|becomes?|turns?|got|grows?) (?:\w{{1,9}} )?(?:{HORRID})\b(?=[.,;:!]|"
    r" (?:fast|quickly|here|very))",
    r"\b(?:lead|leads|leading|turns?|turning|blows?|blowing|degenerat\w{1,3}|ends? up|ending up|descends?|runs?|"
    r"running|spirals?) (?:us |me |up )?(?:to|into|in|as) (?:an? )?(?:\w{1,9} )?(?:swamp|mess|jungle|nightmare|"
    r"dead|ugly|monsters?|nasty|horrible|horrors?|"
    r"morass|tangle|quartic|endless|infinite (?:loop|regress)|circle|circular|case ?work|wall|trouble|quagmire)",
    r"\bbut (?:then|that|this|it|doing (?:so|that)) (?:we |i |it |that )?(?:'d |would |will |also )?(?:picks?|"
    r"introduces?|los(?:es?|ing)|creates?|over-?counts?|ignores?|misses|runs? into|includes?|allows?|neglects?|"
    r"forgets?|leaves? out|assumes?|presuppos\w{1,2}|double)\b",
    r"\b(?:that|this|it|which) (?:\w{1,9} )?(?:ignores|neglects|overcounts|undercounts|double[- ]counts|leaves out|"
    r"forgets|disregards|overlooks|presupposes|begs the question)\b",
    r"\b(?:over-?complicat|over-?think)\w{1,4}\b|\b(?:fall|falling|fell) back (?:on|to)\b|\b(?:let me|let's|we|i|"
    r"i'll|to) (?:\w{1,9} )?(?:resort|revert|retreat|pivot) to\b",
    rf"{START}(?:maybe|perhaps|could (?:we|i|it be)|what about|how about) [^.?\n]{{1,60}}\? [^\n]{{0,80}}?(?:n't\b|"
    rf"\b(?:not|no|but|too|{HORRID[3:-1]}|fails?|wrong|only|never)\b)",
    rf"\b(?:the|that|this) (?:\w{{1,12}} )?{ITEM} (?:is|was|turns out|seems|looks|"
    rf"proves)(?: to be)?(?: \w{{1,9}})? (?:too (?:crude|weak|strong|loose|messy|restrictive|rough|coarse|vague)|"
    r"not (?:sharp|strong|tight|good) enough|insufficient|hopeless|useless|pointless|"
    r"a dead|circular|flawed|bogus|faulty|invalid|reversed|flipped|backwards|upside down|swapped|inverted|the wrong|"
    r"the other way|mixed up|at fault|to blame)\b",
    # What I took to be so is not; it is one thing and not the other.
    r"\bi (?:\w{1,9} )?(?:claimed|said|assumed|thought|believed|figured|guessed|supposed|expected|hoped|was hoping|"
    r"took for granted|took it)\b[^\n]{1,90}?(?:n't\b|\b(?:not|but|no|too|only|instead|wrong|false)\b)",
    r"\b(?:more|less|fewer|[a-z]{3,8}er), not (?:more|less|fewer|[a-z]{3,8}er)\b|\b(?:i mean|i meant)[.,:;!]|"
    r"\bis what (?:belongs|counts|matters|goes)\b|\bi (?:shouldn't|should not|mustn't|ought not to|can't just|"
    r"cannot just|had no right to) \w",
    r"\d[^\n]{0,90}[.;,] (?:it's |that's |so |because )?(?:they |you |we |i )?(?:\w{1,12} ){0,2}(?:plus|minus|times|"
    r"add|subtract|multiply|divide|sine|cosine|radius|diameter|area|perimeter|hours?|minutes?|seconds?|cents?|"
    r"dollars?|days?|weeks?|centimet\w{2,3}|met\w{2,3}|rows?|"
    r"columns?|product|sum|difference|ratio|union|intersection|odd|even|permutations?|combinations?|squared?|cubed?|"
    r"inclusive|exclusive|degrees|radians|with|without|before|after|half|double|twice|maximum|minimum|pounds?|"
    r"kilos?|grams?|feet|inches), not (?:an? |the |by |in |to )?[a-z]{2,12}\b",
    r"\b(?:you|we|one|he|she|they|there) (?:can't|cannot|can't) (?:have|be|buy|get|sell) (?:an? )?(?:\d+\.\d+|"
    r"half (?:an? )|negative|fraction\w{0,3}|-\d|minus \d|\d+/\d+)\b[^\n]{0,60}?\b(?:so i|so the|must|wrong|"
    r"mistake|back|recheck|again|check|should)\b|\bcomes? (?:only )?in wholes?\b",
    r"\b(?:that|this|which|it)(?:'s|'d be|'d make| is| would be| makes| would make| gives|"
    r" comes out)[^.\n]{0,30}\b(?:more|larger|bigger|greater|longer|heavier|older|higher|less|smaller|shorter|"
    r"lower|younger|cheaper|pricier|faster|slower) than (?:the (?:whole|total|entire|full|sum|maximum|mother|"
    r"father|"
    r"hypotenuse|class|box)|all\b|everything|100 ?%|it should|(?:is )?possible|(?:he|she|they|we) (?:had|have|has|"
    r"started)|there are|1\b(?=[,.!]))",
    r"\b(?:with (?:that|this) (?:fixed|corrected|repaired|sorted|cleared up|mended)|after (?:(?:fixing|"
    r"correcting) (?:that|this)|that (?:fix|correction))|once (?:that's |that is )?(?:fixed|corrected))\b|"
    r"\bthat (?:changes (?:things|everything|the)|alters|ruins|spoils|invalidates|kills)\b|"
    r"\b(?:it |as it )?turns? out (?:that )?(?:i|we (?:had|have|were|did|used|missed)|not|(?:this|that|it) (?:isn't|"
    r"wasn't|is not|doesn't|does not|won't|fails))\b|\b(?:that's|that is|this is|it's|that isn't|"
    r"this isn't) (?:not )?how (?:i|it|that|this|one)\b",
    rf"{START}(?:(?:let me |let's )?(?:stop|pause)|reading (?:once more|on|it once)|looking at (?:it|this|"
    rf"the \w{{1,10}}) (?:again|once more)|another look|not (?:an? )(?:integer|whole|natural|valid|option|"
    rf"solution|square|perfect|prime|fit|match))\b[^.,:;!\n]{{0,20}}[.,:;!]",
    rf"(?<=[.!?;] ){NUMBER}(?: [a-z]{{1,12}}){{0,2}},? then(?=[.,;])|\b(?:so|and|but) [^.,\n]{{1,40}} (?:really|"
    r"in truth|in reality)(?=[.;])",
)

BACKTRACKS += (
    # Of what was written down, and of oneself.
    r"\bi(?:'d|'ve| had| have)? (?:typed|copied|keyed|jotted|mistyped)\b|\bi(?:'d| had) (?:written|put|typed|"
    r"entered|noted|plugged)\b",
    r"\b(?:correct(?:ed|ing)?|contradict\w{0,3}|fool\w{0,3}|kidding|ahead of|confus\w{1,3}|trick\w{0,3}|stop|catch|"
    r"caught|trip\w{0,4}) (?:myself|ourselves)\b|\bon my (?:side|part|end)\b(?! of)",
    r"\b(?:isn't|is not|wasn't|aren't|not) (?:really |quite |actually |at all )?(?:legitimate|justified|legal|"
    r"warranted|sound|permissible|kosher|appropriate|as simple|that simple|so simple)\b",
    r"\b(?:achieves?|accomplish\w{0,2}|gains?|gained|buys?|yields?|does) (?:us |me )?(?:exactly |"
    r"absolutely )?nothing\b|\b(?:back )?(?:to )?where (?:it was|we were|i was|(?:we|i|it) (?:started|"
    r"began))\b(?=[.,;:!])|\btak(?:es|ing) (?:ages|forever|too long)\b",
    r"\bthere(?:'s| is) (?:an? |the |some )?(?:\w{1,9} )?(?:factor|term|sign|step|case|minus|root|"
    r"zero)(?: of \S{1,6})? missing\b|\b(?:is|are|was|were) missing (?:from|in) (?:my|our|the (?:sum|list|"
    r"count|equation|total|formula))\b",
    r"\b(?:pattern|rule|formula|guess|argument|induction|conjecture|idea|assumption|analogy|bound|"
    r"claim)s? (?:breaks?|broke|fails?|falls apart|collapses?|stops|doesn't (?:hold|continue|extend)|is broken|"
    r"gives out|crumbles|runs out)\b",
    r"[.?;] (?:[a-z]{3,9}er|more|less|fewer) than [^.?\n]{2,25}\? |\bwhy (?:the )?\d{1,6}\?|\b(?:let me|let's|i'll|"
    r"i should|i need to|i must) (?:\w{1,9} )?(?:look|think|read) (?:[^\s.]{1,12} ){1,5}again\b",
    r"\b(?:was|were|is|are) (?:already )?(?:included|counted|subtracted|added|in there|"
    r"accounted)[^.\n]{0,25}\b(?:already|both times)\b|\b(?:so|hence|thus) [a-z] (?:isn't|is not|can't be|"
    r"cannot be|\u2260) \d[^\n]{0,25}\b[a-z] ?= ?\d",
    r"\b(?:but|while|whereas|yet) (?:we|i|it|they) (?:only )?(?:need|needed|want|wanted|were (?:after|promised)|"
    rf"are after|should (?:have|get|be)|must (?:have|get|be)|expected?) {NUMBER}(?=[.;])",
)
BACKTRACKS += (
    # More than can be; an obstacle; what seemed right.
    r"\b(?:more|less|fewer|greater|larger|smaller|bigger) than (?:an? |the )?(?:\w{1,12} )?(?:allows?|permits?|"
    r"can (?:be|have|hold)|could be|there (?:are|were)|at the start|available|what (?:we|there|he|she) (?:had|"
    r"have|was|started))\b",
    r"\b(?:isn't|is not|not|wasn't|aren't|won't be) (?:going|leading|getting|moving)(?: (?:me|us))? (?:anywhere|"
    r"to (?:work|help|end|close|terminate|lead|fit))\b",
    r"\b(?:yet|but|though|however|except)\b[^.\n]{1,50}\b(?:blocks?|prevents? (?:us|me|this|that)|gets? in the way|"
    r"spoils?|ruins?|obstructs?|defeats?|stands? in the way|won't let (?:us|me)|doesn't let (?:us|me)|refuses?)\b",
    r"\b(?:seemed|looked|appeared|felt) (?:\w{2,8} )?(?:natural|tempting|promising|plausible|obvious|clever|right|"
    r"good|fine|easy|reasonable)\b[^\n]{1,80}?(?:n't\b|\b(?:yet|but|though|until|however|not)\b)|"
    r"\btempting to [^.\n]{1,60}\b(?:but|yet|though)\b",
    # What is nowhere said, already taken, or there twice.
    r"\bnothing (?:says|guarantees|in the (?:text|problem|question) says)\b|\b(?:not|isn't|wasn't|"
    r"nowhere) (?:actually |even )?in the (?:text|problem|question|statement)\b|\b(?:assum\w{2,6}|took|used|"
    r"claim\w{0,2})\b[^.\n]{1,60}\b(?:isn't|is not|was not|wasn't|never|nowhere) "
    r"(?:actually )?(?:given|stated|said|mentioned|specified|granted|justified|proved)\b",
    r"\b(?:notation|letter|symbol|name|variable|label)s? (?:clash|collid|conflict|(?:is|are) already)\w{0,3}\b|"
    r"\bis already (?:taken|used|in use)\b|\b(?:can't|cannot|couldn't|can hardly) (?:be |have been )?(?:intended|"
    r"meant|what (?:they|is))\b",
    rf"{START}(?:strike|cross out|delete|erase|disregard|undo) (?:the |that |my |this )(?:\w{{1,9}} )?(?:case|line|"
    r"step|part|term|last|first|second|third|previous|one|equation|sentence|claim|factor)\b",
    r"\d[^\n]{0,25}[.;] i (?:put|took|used|wrote|read|plugged|set|typed) [^.\n]{1,25} (?:over|for|where|instead of|"
    r"in place of|as if)\b|[.;] adjusting\b ?[:,]|\b(?:that|this|it) (?:was|is) (?:only |just )?for (?:only |"
    r"just )?(?:\d{1,4}|one|two|half)\b[^.\n]{0,20}[.;] (?:but )?(?:there are|we (?:have|need)|i need)\b",
)
