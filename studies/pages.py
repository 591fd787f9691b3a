"""Pages whose tables stand between marks."""


def filled(text: str, name: str, body: str) -> str:
    """The page with `body` between <!-- name --> and <!-- end of name -->."""
    before, rest = text.split(f"<!-- {name} -->")
    after = rest.split(f"<!-- end of {name} -->")[1]
    return f"{before}<!-- {name} -->\n\n{body}\n\n<!-- end of {name} -->{after}"
