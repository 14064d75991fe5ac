"""The mutation operators: each looks at one token and yields (start, end, replacement) in the file.

An operator is mechanical: it knows syntax, never the meaning of the code. It may propose a mutant that
does not compile (the build rejects it), but it should not miss a place of its kind.
"""

import re

from mutant_tokens import CONTROL_WORDS

RELATIONAL = {"<": ("<=", ">"), "<=": ("<", ">"), ">": (">=", "<"), ">=": (">", "<"),
              "==": ("!=", ">="), "!=": ("==", ">")}
ARITHMETIC = {"+": "-", "-": "+", "/": "*", "%": "/", "+=": "-=", "-=": "+=", "*=": "/=",
              "/=": "*=", "++": "--", "--": "++"}
BITWISE = {"<<": ">>", ">>": "<<", "&": "|", "|": "&", "^": "|", "<<=": ">>=", ">>=": "<<=",
           "&=": "|=", "|=": "&="}
# Words for neighbouring axes, operands or ends. A name is taken apart at its underscores, and one word is
# exchanged. The result counts if the same function uses that name.
WORD_GROUPS = [w.split() for w in (
    "q k v kv", "i j h", "i j k", "b h", "m n", "x y", "lo hi", "row col", "rows cols",
    "left right", "first last", "begin end", "start end", "batch seq head dim", "page slot",
    "key value", "query key", "src dst", "got expected", "a b")]
SIMD = {"add": "sub", "sub": "add", "mul": "add", "fmadd": "fmsub"}
BEFORE_CONDITION = frozenset("( [ { , ; = += -= *= /= |= &= ? : return".split())


def ends_operand(token):
    """True if `token` can be the end of a binary operator's left side."""
    if token.kind == "ident":
        return token.text not in CONTROL_WORDS and not token.is_type()
    return token.kind in ("number", "string") or token.text in (")", "]", "++", "--")


def is_cast(tokens, k):
    """True if the parentheses that open at `k` hold only a type."""
    inner = tokens[k + 1:tokens[k].mate] if tokens[k].mate else []
    plain = all(t.kind == "ident" or t.text == "*" for t in inner)
    return bool(inner) and plain and (inner[0].is_type() or inner[-1].text == "*")


def is_declaration(tokens, k):
    """True if a declaration starts at `k`: `int x`, `const T *x`, `T x`, `T *x`."""
    if tokens[k].is_type():
        return True
    if tokens[k].kind != "ident" or tokens[k].text in CONTROL_WORDS or tokens[k].text == "asm":
        return False
    stars = k + 1
    while stars < len(tokens) and tokens[stars].text in ("*", "const", "&"):
        stars += 1
    if stars >= len(tokens) - 1 or tokens[stars].kind != "ident":
        return False
    return stars == k + 1 or tokens[stars + 1].text in ("=", ";", ",", "[", ":")


def is_binary(tokens, k):
    """True if the operator at `k` has an operand on both sides."""
    if k == 0 or k + 1 >= len(tokens) or not ends_operand(tokens[k - 1]):
        return False
    if tokens[k - 1].text == ")" and tokens[k - 1].mate is not None:
        if is_cast(tokens, tokens[k - 1].mate):
            return False
    if tokens[k].text not in ("*", "&"):
        return True
    if tokens[k + 1].text in (")", ",", "*", ">", "const", "restrict"):
        return False
    # `T *x = ...`: the name before the star starts a statement, so it is a type.
    starts = k < 2 or tokens[k - 2].text in ("{", "}", ";", "(")
    return not (starts and tokens[k - 1].kind == "ident" and is_declaration(tokens, k - 1))


def operand_after(tokens, k):
    """The index behind the operand (casts, prefixes, calls, indices, members) starting at `k`."""
    while k < len(tokens):
        if tokens[k].text == "(" and is_cast(tokens, k):
            k = tokens[k].mate + 1
        elif tokens[k].text in ("-", "+", "!", "~", "*", "&", "++", "--", "sizeof"):
            k += 1
        else:
            break
    k = tokens.behind(k)
    while k < len(tokens) and tokens[k].text in ("(", "["):
        k = tokens.behind(k)
    if k < len(tokens) and tokens[k].text in (".", "->"):
        return operand_after(tokens, k + 1)
    return k + 1 if k < len(tokens) and tokens[k].text in ("++", "--") else k


def operand_before(tokens, k):
    """The index of the first token of the postfix expression that ends at `k`."""
    while k > 0 and tokens[k].text in (")", "]") and tokens[k].mate is not None:
        k = tokens[k].mate
        if not ends_operand(tokens[k - 1]) or tokens[k - 1].text in ("++", "--"):
            return k
        k -= 1
    if k > 1 and tokens[k - 1].text in (".", "->"):
        return operand_before(tokens, k - 2)
    return k


def replace(token, text):
    return token.start, token.end, text


def is_angle_bracket(text, token):
    """True for the brackets of `f<Config>(x)`. Comparisons have spaces, which clang-format puts there."""
    return token.text in ("<", ">", ">>") and not text[token.start - 1].isspace()


def relational(text, tokens, k):
    if is_angle_bracket(text, tokens[k]):
        return
    if tokens[k].text in RELATIONAL and is_binary(tokens, k):
        for other in RELATIONAL[tokens[k].text]:
            yield replace(tokens[k], other)


def arithmetic(text, tokens, k):
    token = tokens[k]
    simd = re.fullmatch(r"(_mm\w*?_)(add|sub|mul|fmadd)(_\w+)", token.text)
    if simd:
        yield replace(token, simd[1] + SIMD[simd[2]] + simd[3])
    if token.text == "-" and not is_binary(tokens, k):
        yield replace(token, "")
    elif token.text in ("++", "--") or (token.text in ARITHMETIC and is_binary(tokens, k)):
        yield replace(token, ARITHMETIC[token.text])


def bitwise(text, tokens, k):
    if tokens[k].text in BITWISE and is_binary(tokens, k) and not is_angle_bracket(text, tokens[k]):
        yield replace(tokens[k], BITWISE[tokens[k].text])
    elif tokens[k].text == "~":
        yield replace(tokens[k], "")


def constant(text, tokens, k):
    token = tokens[k]
    if token.text in ("true", "false") and tokens[k - 1].text != "return":
        yield replace(token, "false" if token.text == "true" else "true")
    if token.kind != "number" or is_lone_index(tokens, k):
        return
    yield replace(token, f"({token.text} + 1)")
    yield replace(token, f"({token.text} - 1)")


def is_lone_index(tokens, k):
    """True for the i of `a[i]`, false for the n of `int a[n]`, which is a size."""
    inside = 1 < k < len(tokens) - 1 and tokens[k - 1].text == "[" and tokens[k + 1].text == "]"
    return inside and not is_declared_name(tokens, k - 2)


def offset(text, tokens, k):
    """An index one too far or one too near: a[i] becomes a[(i) + 1]."""
    if tokens[k].text != "[" or not tokens[k].mate or k == 0 or not ends_operand(tokens[k - 1]):
        return
    first, last = tokens[k].end, tokens[tokens[k].mate].start
    if tokens[k].mate == k + 1 or is_declared_name(tokens, k - 1):
        return
    if is_lone_index(tokens, k + 1) and tokens[k + 1].kind == "number":
        return
    for change in (" + 1", " - 1"):
        yield first, last, f"({text[first:last]}){change}"


def index(text, tokens, k):
    """Another axis: stride[0] becomes stride[1], q.len becomes k.len, i becomes j."""
    token = tokens[k]
    if token.kind == "number" and is_lone_index(tokens, k) and token.text.isdecimal():
        for other in (int(token.text) + 1, int(token.text) - 1):
            if other >= 0:
                yield replace(token, str(other))
    if token.kind != "ident" or (k > 0 and is_declared_name(tokens, k)):
        return
    for other in sibling_names(token.text):
        if other in tokens.names_beside(k):
            yield replace(token, other)


def is_declared_name(tokens, k):
    """True for the x of `int x`, `T *x`. Exchanging it would only rename a variable."""
    while k > 0 and tokens[k - 1].text == "*":
        k -= 1
    before = tokens[k - 1]
    return k > 0 and before.kind == "ident" and before.text not in CONTROL_WORDS


def sibling_names(name):
    """Every name that differs in one word of one group: stride_q gives stride_k, stride_v, ..."""
    words = name.split("_")
    found = []
    for position, word in enumerate(words):
        for group in WORD_GROUPS:
            for other in group if word in group else ():
                sibling = "_".join(words[:position] + [other] + words[position + 1:])
                if other != word and sibling not in found:
                    found.append(sibling)
    return found


def starts_statement(tokens, k):
    token = tokens[k]
    if token.inside is not None and tokens[token.inside].text != "{":
        return False
    before = tokens[k - 1] if k > 0 else None
    if before is None or before.text in ("{", "}", ";", "else", "do"):
        return True
    if before.text == ")" and before.mate:
        return tokens[before.mate - 1].text in ("if", "for", "while", "switch")
    return before.text == ":" and is_label(tokens, k - 1)


def is_label(tokens, colon):
    """True for the colon of `case x:`, `default:` and `name:`, false for the one of `a ? b : c`."""
    first = colon
    while first > 0 and tokens[first - 1].text not in ("{", "}", ";", ":"):
        first -= 1
    return tokens[first].text in ("case", "default") or first == colon - 1


def statement(text, tokens, k):
    """Drops an expression statement, an assignment or a call. Line numbers stay as they are."""
    token = tokens[k]
    if not token.function or not starts_statement(tokens, k):
        return
    if token.kind != "ident" and token.text not in ("*", "(", "++", "--"):
        return
    if token.text in CONTROL_WORDS or is_declaration(tokens, k):
        return
    end = k
    while end < len(tokens) and tokens[end].text != ";":
        end = tokens.behind(end)
        if end < len(tokens) and tokens[end].inside != token.inside:
            return
    if end < len(tokens) and not (end == k + 2 and tokens[k + 1].text == ":"):
        lines = text.count("\n", token.start, tokens[end].end)
        yield token.start, tokens[end].end, ";" + "\n" * lines


def negate(text, tokens, k):
    token = tokens[k]
    if token.text == "!":
        yield replace(token, "")
    elif token.text in ("if", "while") and k + 1 < len(tokens) and tokens[k + 1].mate:
        yield from negate_span(text, tokens, k + 2, tokens[k + 1].mate)
    elif token.text == "for" and k + 1 < len(tokens) and tokens[k + 1].mate:
        ends = [n for n in range(k + 2, tokens[k + 1].mate)
                if tokens[n].text == ";" and tokens[n].inside == k + 1]
        if len(ends) == 2:
            yield from negate_span(text, tokens, ends[0] + 1, ends[1])
    elif token.text == "?":
        first = k
        while first > 0 and tokens[first - 1].text not in BEFORE_CONDITION:
            first = tokens[first - 1].mate if tokens[first - 1].text in (")", "]") else first - 1
        yield from negate_span(text, tokens, first, k)


def negate_span(text, tokens, first, behind):
    if first < behind and not (behind == first + 1 and tokens[first].kind == "number"):
        start, end = tokens[first].start, tokens[behind - 1].end
        yield start, end, f"!({text[start:end]})"


def logical(text, tokens, k):
    if tokens[k].text in ("&&", "||") and k > 0 and is_binary(tokens, k):
        yield replace(tokens[k], "||" if tokens[k].text == "&&" else "&&")


def scale(text, tokens, k):
    """A factor dropped: `a * b` becomes `a` and `b`, `a / b` becomes `a`."""
    if tokens[k].text not in ("*", "/") or not is_binary(tokens, k):
        return
    behind = operand_after(tokens, k + 1)
    yield tokens[k - 1].end, tokens[behind - 1].end, ""
    if tokens[k].text == "*":
        yield tokens[operand_before(tokens, k - 1)].start, tokens[k + 1].start, ""


def minmax(text, tokens, k):
    token = tokens[k]
    called = k + 1 < len(tokens) and tokens[k + 1].text == "("
    if token.kind == "ident" and (called or token.text.isupper()):
        extreme = r"(?<![a-zA-Z])(f?)(min|max|MIN|MAX)(?=[fl]?(?:_|$|\d))"
        other = re.sub(extreme, exchange, token.text)
        if other != token.text:
            yield replace(token, other)


def exchange(match):
    pairs = {"min": "max", "max": "min", "MIN": "MAX", "MAX": "MIN"}
    return match[1] + pairs[match[2]]


def returned(text, tokens, k):
    """A returned name or call becomes 0, and a truth value its opposite. `constant` does numbers, too."""
    if tokens[k].text != "return":
        return
    end = k + 1
    while end < len(tokens) and tokens[end].text != ";":
        end = tokens.behind(end)
    value = tokens[k + 1:end]
    if len(value) == 1 and value[0].text in ("true", "false"):
        yield replace(value[0], "false" if value[0].text == "true" else "true")
    elif value and not (len(value) == 1 and value[0].text in ("0", "NULL", "nullptr")):
        start, last = value[0].start, value[-1].end
        yield start, last, "0" + "\n" * text.count("\n", start, last)


def jump(text, tokens, k):
    """A break, continue, goto or return that is no longer taken."""
    length = {"break": 1, "continue": 1, "return": 1, "goto": 2}.get(tokens[k].text)
    if length and k + length < len(tokens) and tokens[k + length].text == ";":
        yield tokens[k].start, tokens[k + length - 1].end, ""


OPERATORS = {"relational": relational, "arithmetic": arithmetic, "bitwise": bitwise,
             "constant": constant, "offset": offset, "index": index, "statement": statement,
             "negate": negate, "logical": logical, "scale": scale, "minmax": minmax,
             "return": returned, "jump": jump}
