"""Does a response speak of our prompt? The model that is trained on it sees no such prompt.

Only what can refer to nothing else is a leak. "The instructions on the packet" belong to a problem, and "we are asked
to find x" speaks of one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from dpr_mini.recipe.prompts import TEMPLATES

SENTENCE = 5
"""Words of an instruction's sentence from which on its copy is a leak; "Show each step." is anybody's."""

# What chat templates are made of: written out in an answer, it begins a turn that nobody asked for.
_CONTROL = (
    r"<\|[A-Za-z_][\w .:/-]{1,40}\|>",  # ChatML, Llama 3, Phi, Command R
    r"<\uff5c[^\uff5c<>\n]{1,40}\uff5c>",  # DeepSeek
    r"\[/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS)\]",  # Mistral
    r"<</?SYS>>|(?<!\w)<s>|</s>",  # Llama 2
    r"</?(?:start|end)_of_\w{1,20}>|</?im_(?:start|end|sep)>",  # Gemma
    r"<(?:bos|eos|eot|pad|unk|sop)>|\[gMASK\]|<extra_id_\d+>|<(?:unused|reserved_)\d+>",
    r"(?m:^[ \t]*#{2,4} ?(?:Instruction|Response|Input|Human|Assistant|User|System):)",  # Alpaca, Vicuna
    r"(?m:^[ \t]*(?:USER|ASSISTANT|HUMAN|Human|Assistant):)",
    r"(?m:^[ \t]*(?:user|assistant)[ \t]*$)",  # a turn's head whose control tokens the decoder left out
)

_DEMANDS = (
    r"(?:ask|demand|require|request|want|tell|say|state|instruct|specify|specifie|mention|call|expect|need|order|insist|"
    r"give|show|contain|include)(?:s|d|ed)?|told|said|gave"
)
_TEXT = (  # what somebody may have shown to the model
    r"(?:solution|answer|attempt|response|reply|reasoning|working|example|calculation|prompt|template|instruction|"
    r"conversation|message|derivation|proof)s?"
)
_SHOWN = r"(?:shown|given|provided|handed|presented|sent)"
_TOLD = r"(?:asked|told|instructed|prompted|required|requested|directed|reminded)"
_OWN = r"(?:answer|solution|result|steps?|work|working|calculations?|reasoning|attempt)"
_TASK = (  # what our instructions ask for
    rf"(?:(?:double-?check|check|verify|test|review|correct|explain|show|box|put|write|state) (?:my |the |this |that )?"
    rf"(?:each |every |all |final |whole |own |of |first |previous )*{_OWN}|(?:check|verify)(?: it| this)?[,.;:]|"
    rf"(?:go|look) back|backtrack|work backwards?|(?:reason|think|work) step by step|(?:end|finish) with|"
    rf"start from (?:my|the) {_OWN}|(?:split|break) (?:it|the (?:problem|task|calculation)))"
)
_TALK = (
    rf"\b(?:the|this|your|my|our|system|user|original) prompt,? "
    rf"(?:also |clearly |above |here |only |already |just |even )*(?:{_DEMANDS})\b",
    r"\b(?:in|by|from|of|per|with|to|following|under) (?:the|this|your) prompt"
    r"(?=[.,;:!?)]|$| (?:I|to|above|says?|was|is)\b)",
    r"\b(?:system|user) (?:prompt|message)\b|\byour prompt\b|\bprompt above\b|\babove prompt\b|"
    r"\b(?:this|my|our) prompt (?:was|is)\b",
    rf"\b{_TEXT},? (?:that |which )?I (?:was|am|have been|had been|got) (?:just |already )?{_SHOWN}\b",
    rf"\b{_TEXT} (?:that |which )?(?:was |were |is |are )?{_SHOWN} to me\b",
    rf"\b{_TEXT} (?:that |which )?(?:you|the user) (?:have |has |had )?(?:just )?(?:{_SHOWN}|gave|showed)\b",
    rf"\b(?:as|like|what) (?:\w+ ){{0,2}}(?:{_TOLD}|demanded) (?:to do )?"
    r"(?:above|earlier|previously|by (?:you|the user)|in (?:the|your|this) (?:prompt|message|conversation))\b",
    r"\bas (?:instructed|prompted|requested),? (?:I|I'll|let me|let us|let's|here)\b",
    rf"\bas I (?:was|am|have been) {_TOLD}\b|\bI (?:was|am|have been) (?:also )?(?:instructed|prompted)\b",
    rf"\bI(?:'m| was| am| have been|'ve been) (?:also |only |just |now |being )*{_TOLD} to {_TASK}",
    rf"\b(?:ask|tell|want|instruct|require|remind)(?:s|ed|ing)? me to {_TASK}|\btold me to {_TASK}",
    rf"\binstructions? (?:also )?(?:{_DEMANDS}) (?:that I |me |us )?(?:to |must |should )?{_TASK}",
    r"\binstructions? (?:stated |given |shown |listed |written )?(?:above(?! (?:the|a|an|his|her)\b)|earlier|to me)\b",
    r"\b(?:above|preceding|your|system|user's) instructions?\b|\b(?:your|user's) (?:request|message|query)\b",
    r"\b(?:my|your) (?:previous|last|earlier) (?:message|response|reply|prompt)\b",
    r"\bthe user (?:has |is |was |also |now |just )*"
    r"(?:ask|want|say|said|request|instruct|provid|gave|expect|told|tell|claim|wrote)(?:s|ed|ing|es)?\b",
    r"\b(?:reference|ground[- ]truth|gold(?:en)?) (?:solution|answer)s?\b|\bmy instructions?\b",
    r"^\W*You are an? (?:\w+ ){0,3}(?:assistant|AI|chatbot|language model|tutor|expert|mathematician|solver)\b",
    r"\bI (?:have to|need to|must|should|am to) (?:write|use|give|show|include|provide|produce) "
    r"(?:at least |exactly |at most )?[\w-]+ (?:steps|checks|verifications)\b",
    r"\bas an? (?:AI|artificial intelligence|(?:large )?language model)\b",
)
_SIGNS = re.compile("|".join(_CONTROL))
_SPEAKS = re.compile("|".join(_TALK), re.I | re.M)


def leak(text: str) -> str | None:
    """The first control token of a chat, or the first talk of our prompt, with what stands around it."""
    match = _SIGNS.search(text) or _SPEAKS.search(text)
    return around(text, match) if match else None


def around(text: str, match: re.Match[str]) -> str:
    """A match and 40 characters on each side."""
    return text[max(0, match.start() - 40) : match.end() + 40]


def copied(text: str, instructions: Iterable[str], words: int) -> str | None:
    """The first `words` consecutive words of a line of the instructions, or whole sentence of one, that `text` repeats.

    Case and punctuation aside; sentences count from SENTENCE words on. Our own templates are among the instructions.
    """
    lines = [line for own in (*instructions, *_ours()) for line in own.splitlines()]
    runs = {run for line in lines for run in _runs(_tokens(line), words)}
    said = _tokens(text)
    if copy := next((run for run in _runs(said, words) if run in runs), None):
        return " ".join(copy)
    sentences = {tuple(_tokens(part)) for line in lines for part in re.split(r"[.!?:](?:\s|$)", line)}
    whole = f" {' '.join(said)} "
    short = sorted(" ".join(s) for s in sentences if SENTENCE <= len(s) < words)
    return next((s for s in short if f" {s} " in whole), None)


def _ours() -> Iterator[str]:
    return (part for template in TEMPLATES.values() for part in template.split("{problem}"))


def _tokens(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _runs(tokens: list[str], words: int) -> Iterator[tuple[str, ...]]:
    return (tuple(tokens[i : i + words]) for i in range(len(tokens) - words + 1))
