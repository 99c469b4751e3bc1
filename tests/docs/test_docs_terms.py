"""Chinese texts use one word for one thing: the one in CONTRIBUTING's Glossary."""

import re
from pathlib import Path

import pytest

pytestmark = [pytest.mark.fast, pytest.mark.without_coverage]

ROOT = Path(__file__).parents[2]
# A word that Chinese texts must not use -> the word of the Glossary. WeChat Pay, Alipay or GatePay use that one, too.
WRONG_WORDS = {
    "请求正文": "请求体",
    "请求主体": "请求体",
    "响应正文": "响应体",
    "应答": "响应",
    "支付页面": "付款页面",
    "收银台": "付款页面",
    "付款方式": "支付方式",
    "支付类型": "支付方式",
    "令牌": "token",
    "投递": "通知",
    "分片": "分块",
    "二分": "对半拆分",
    "挪动": "移到相邻的字段",
    "暂存目录": "暂存区",
    "附加组件": "可选依赖",
    "查询串": "查询字符串",
    "沙盒": "沙箱",
    "卡券": "卡密",
}


def chinese_texts() -> dict[str, str]:
    """Return all Chinese texts, by file. The tables of words/ have no English text with these characters."""
    files = [ROOT / "README.zh-CN.md", *(ROOT / "docs" / "zh").rglob("*.md"), *(ROOT / "docs" / "zh").rglob("*.toml")]
    files += (ROOT / "src" / "gatepay_async" / "words").glob("*.py")
    return {str(file.relative_to(ROOT)): file.read_text("utf-8") for file in files}


def test_chinese_texts_use_the_words_of_the_glossary() -> None:
    """No Chinese text uses another word for a thing than the Glossary."""
    found = [
        f"{file}:{number}: {wrong}, not {right}"
        for file, text in chinese_texts().items()
        for number, line in enumerate(text.splitlines(), 1)
        for wrong, right in WRONG_WORDS.items()
        if wrong in line
    ]
    assert found == []


def test_the_right_words_are_in_the_glossary() -> None:
    """Each right word is a Chinese word of the Glossary, or explains one."""
    rows = re.findall(r"^\|.*\| ([^|]+) \|$", (ROOT / "CONTRIBUTING.md").read_text("utf-8"), re.MULTILINE)
    words = {word for row in rows for word in re.split("[，、]", row)}
    assert set(WRONG_WORDS.values()) - words == {"移到相邻的字段", "查询字符串"}
