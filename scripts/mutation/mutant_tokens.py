"""A C tokenizer that knows just enough to find the places worth breaking.

It splits a file into tokens, matches brackets, and tells for every token whether it is code that runs (a
function's body, an initialiser, an enumerator) or a declaration, which has nothing to break. It is not a
parser: where it misjudges, the mutant does not compile and is thrown away.
"""

import re

TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n\f\v]+|\\\r?\n)
      | (?P<comment>//(?:\\\n|[^\n])*|/\*.*?\*/)
      | (?P<string>(?:u8|[uUL])?"(?:\\.|[^"\\\n])*"|(?:u8|[uUL])?'(?:\\.|[^'\\\n])*')
      | (?P<number>\.?\d(?:[eEpP][+-]|[\w.]|'(?=\w))*)
      | (?P<ident>[A-Za-z_]\w*)
      | (?P<punct><<=|>>=|\.\.\.|->|\+\+|--|<<|>>|<=|>=|==|!=|&&|\|\||::|[-+*/%&|^]=|\#\#|.)""",
    re.VERBOSE | re.DOTALL)
DIRECTIVE = re.compile(r"[ \t]*#(?:[^\n]*\\\r?\n)*[^\n]*")
DEFINE = re.compile(r"[ \t]*#[ \t]*define[ \t]+\w+(?:\([^)]*\))?[ \t]")

TYPE_WORDS = frozenset("""auto bool char const double enum extern float inline int long register
    restrict short signed size_t ssize_t static struct typedef union unsigned void volatile
    _Bool _Atomic _Thread_local using namespace template typename""".split())
CONTROL_WORDS = frozenset("""if else for while do switch case default return goto break continue
    sizeof _Alignof alignof""".split())
OPENERS = {"(": ")", "[": "]", "{": "}"}
# Calls whose arguments are not behaviour: an assertion that a build switches off, an attribute.
SKIPPED_CALLS = frozenset("assert static_assert _Static_assert __attribute__ _Alignas".split())


class Token:
    """One token. `mate` is the index of the matching bracket, `inside` of the enclosing one."""

    __slots__ = ("kind", "text", "start", "end", "mate", "inside", "live", "function")

    def __init__(self, kind, text, start):
        self.kind, self.text, self.start, self.end = kind, text, start, start + len(text)
        self.mate = self.inside = None
        self.live, self.function = False, ""

    def is_type(self):
        return self.kind == "ident" and (self.text in TYPE_WORDS or self.text.endswith("_t"))


class TokenList(list):
    """The tokens of one stretch of code, and the names that each of its functions uses."""

    def __init__(self):
        super().__init__()
        self._names = {}

    def behind(self, k):
        """The index behind token `k`, or behind the whole bracket if one opens there."""
        return (self[k].mate if self[k].text in OPENERS and self[k].mate else k) + 1

    def is_member(self, k):
        return k > 0 and self[k - 1].text in (".", "->")

    def names_beside(self, k):
        """The names used in the function of token `k`; for a member, all members of the file."""
        key = None if self.is_member(k) else self[k].function
        if key not in self._names:
            self._names[key] = {t.text for n, t in enumerate(self) if t.kind == "ident" and (
                self.is_member(n) if key is None else t.function == key)}
        return self._names[key]


def scan(text, start, end):
    """The tokens of text[start:end], without comments and spaces."""
    tokens = TokenList()
    while start < end:
        match = TOKEN.match(text, start, end)
        if match.lastgroup not in ("space", "comment"):
            tokens.append(Token(match.lastgroup, match.group(), start))
        start = match.end()
    return tokens


def split_directives(text):
    """Yields (is_directive, start, end); a `#` inside a comment or a string starts no directive."""
    position = code_start = 0
    line_is_blank = True
    while position < len(text):
        directive = DIRECTIVE.match(text, position) if line_is_blank else None
        if directive:
            yield False, code_start, position
            # A comment opened on the directive's line may run on. The rest of it is not code.
            end = directive.end()
            opened = text.rfind("/*", position, end)
            if opened >= 0 and text.find("*/", opened, end) < 0:
                end = text.find("*/", opened) + 2
            yield True, position, end
            position = code_start = end
            continue
        match = TOKEN.match(text, position)
        position = match.end()
        if match.lastgroup == "space":
            line_is_blank = line_is_blank or "\n" in match.group()
        elif match.lastgroup != "comment":
            line_is_blank = False
    yield False, code_start, len(text)


def match_brackets(tokens):
    stack = []
    for k, token in enumerate(tokens):
        if stack and token.kind == "punct" and token.text == OPENERS[tokens[stack[-1]].text]:
            opener = stack.pop()
            tokens[opener].mate, token.mate = k, opener
        token.inside = stack[-1] if stack else None
        if token.kind == "punct" and token.text in OPENERS:
            stack.append(k)


def function_name(tokens, brace):
    """The name before the parameter list that ends before `brace`, or None if this is no body."""
    k = brace - 1
    while k >= 0 and tokens[k].text in ("const", "noexcept", "override"):
        k -= 1
    if k < 0 or tokens[k].text != ")" or tokens[k].mate is None:
        return None
    name = tokens[tokens[k].mate - 1]
    return name.text if name.kind == "ident" else None


def brace_role(tokens, brace):
    """What a `{` outside functions opens: ("body", name), ("values", "") or ("types", "")."""
    name = function_name(tokens, brace)
    if name is not None:
        return "body", name
    k = brace - 1
    while k >= 0 and tokens[k].text not in (";", "{", "}"):
        if tokens[k].text in ("=", "enum"):
            return "values", ""
        k -= 1
    return "types", ""


def mark_live(tokens):
    """Sets `live` and `function` on every token that belongs to code."""
    stack = [("types", "")]
    for k, token in enumerate(tokens):
        if token.text == "}" and token.mate is not None:
            stack.pop()
        role, name = stack[-1]
        token.live, token.function = role != "types", name
        if token.text == "{" and token.mate is not None:
            stack.append((role, name) if role != "types" else brace_role(tokens, k))
    for k, token in enumerate(tokens):
        if token.text in SKIPPED_CALLS and k + 1 < len(tokens) and tokens[k + 1].mate:
            for skipped in tokens[k:tokens[k + 1].mate + 1]:
                skipped.live = False


def token_lists(text, with_macros):
    """One list for the file's code and, if asked for, one for the body of each macro."""
    code, bodies = TokenList(), []
    for is_directive, start, end in split_directives(text):
        if not is_directive:
            code.extend(scan(text, start, end))
        elif with_macros and DEFINE.match(text, start, end):
            bodies.append(scan(text, DEFINE.match(text, start, end).end(), end))
    match_brackets(code)
    mark_live(code)
    for body in bodies:
        match_brackets(body)
        for token in body:
            token.live = True
    return [code] + [body for body in bodies if body]
