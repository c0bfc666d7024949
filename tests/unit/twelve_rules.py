"""Twelve rules of every kind, and values that they read."""

from model_registry.rules import Rules, compile_rules
from model_registry.rules.expressions import Value

FIELDS = {
    "tax.declaration.sales_12m": "number",
    "tax.declaration.sales_3m": "number",
    "tax.declaration.taxpayer_grade": "category",
    "tax.arrears.count_12m": "integer",
    "tax.arrears.amount": "number",
    "public_credit.lists.score": "number",
    "public_credit.judicial.defendant_12m": "integer",
    "electricity.usage.usage_12m": "number",
    "market_regulation.registration.founded": "date",
    "market_regulation.registration.listed": "boolean",
}
CODES = {"tax.declaration.taxpayer_grade": ("A", "B", "M", "C", "D")}
TWELVE = b"""\
version: 1
exclusions:
  - {name: in arrears, when: tax.arrears.count_12m > 2 || tax.arrears.amount > 100000.0, missing: skip}
  - {name: sued, when: public_credit.judicial.defendant_12m > 20, missing: skip}
  - {name: founded lately, when: market_regulation.registration.founded > 19000}
  - {name: worst grade, when: 'tax.declaration.taxpayer_grade in ["D"]'}
cutoffs:
  - {name: too likely to default, when: model.score > 0.35}
  - {name: risky and in arrears, when: model.score > 0.2 && tax.arrears.count_12m > 0, missing: skip}
  - {name: sales collapse, when: tax.declaration.sales_3m * 8.0 < tax.declaration.sales_12m}
caps:
  - {name: a tenth of sales, limit: tax.declaration.sales_12m * 0.1}
  - {name: by risk, limit: 3000000.0 * (1.0 - model.score * 2.5)}
  - {name: by electricity, when: '!market_regulation.registration.listed', limit: electricity.usage.usage_12m * 5.0}
  - {name: product, limit: 3000000}
tables:
  - name: by grade, credit and risk
    hit: first
    inputs: [tax.declaration.taxpayer_grade, public_credit.lists.score, model.score]
    rows: |
      C    | -        | -          | 100000
      A    | >= 80    | < 0.1      | 3000000
      A, B | >= 60    | < 0.1      | 2000000
      A, B | >= 60    | [0.1..0.2) | 1000000
      M    | [40..60) | -          | tax.declaration.sales_12m * 0.02
      -    | >= 40    | -          | 300000
    otherwise: decline
"""
VALUES: dict[str, Value | None] = {
    "tax.declaration.sales_12m": 9e6,
    "tax.declaration.sales_3m": 2e6,
    "tax.declaration.taxpayer_grade": "B",
    "tax.arrears.count_12m": 0,
    "tax.arrears.amount": 0.0,
    "public_credit.lists.score": 71.5,
    "public_credit.judicial.defendant_12m": 1,
    "electricity.usage.usage_12m": 3e5,
    "market_regulation.registration.founded": 15000,
    "market_regulation.registration.listed": False,
}


def twelve_rules() -> Rules:
    """Four exclusions, three cutoffs, four caps and a table of six rows over ten fields."""
    return compile_rules(TWELVE, FIELDS, CODES)
