"""Finds the column of a table with the card keys, and whether its first row is a heading."""

import re
from collections.abc import Sequence

from gatepay_async.cli.files.reading import FileProblemError

EXPORTED_COLUMN = "content"  # the name of the column with the card keys, in files that the command writes
# Common names of the column with the card keys, and of other columns.
_KEY_NAMES = """
卡密 卡号 卡號 卡密内容 卡密內容 卡密列表 卡密信息 卡密号 卡号卡密 卡号密码 账号密码 卡券 卡券码 券号 券码 兑换码 兌換碼
兑换券 激活码 充值码 充值卡密 序列号 密钥 秘钥 密匙 注册码 授权码 礼品码 礼包码 cdk cdks
content key keys code codes card cards card_key card_keys cardkey cardkeys card_no card_number card_code cd_key cdkey
cdkeys redeem_code redemption_code activation_code activation_key license license_key licence licence_key serial
serial_number serial_no voucher vouchers voucher_code coupon coupon_code pin
"""
_OTHER_NAMES = """
密码 密碼 账号 帐号 帳號 编号 編號 序号 状态 狀態 商品 商品名称 名称 价格 面值 备注 日期 时间 创建时间
id no number name status state password account product price value note notes remark date created created_at
updated_at pay_order_id
"""
_KEYS = frozenset(_KEY_NAMES.split())
_OTHERS = frozenset(_OTHER_NAMES.split())
_SHOWN_NAME_CHARS = 20


def looks_like_heading(line: str) -> bool:
    """Whether *line* of a text file is a heading and no card key, such as ``卡密`` or ``id,content,…``."""
    return contain_column_name(re.split(r"[,，;；\t|]|-{2,}", line))


def contain_column_name(cells: Sequence[str]) -> bool:
    """Whether one of *cells* is a common name of a column, which no row of card keys contains."""
    return any(_normalize(cell) in _KEYS | _OTHERS for cell in cells)


def choose_column(first_row: Sequence[str], column_option: str) -> tuple[int, bool]:
    """
    Return the index of the column with the card keys, and whether the *first_row* is a heading.

    Args:
        first_row: The cells of the first row that isn't blank.
        column_option: The value of ``--column``, a name or a number; empty: find the column.

    Raises:
        FileProblemError: The column can't be determined. The facts contain the names of the columns.
    """
    names = [_normalize(cell) for cell in first_row]
    is_heading = contain_column_name(first_row)
    filled_indexes = [index for index, name in enumerate(names) if name]
    if column_option.isdecimal():
        if 1 <= int(column_option) <= len(first_row):
            return int(column_option) - 1, is_heading
    elif column_option:
        if names.count(_normalize(column_option)) == 1:
            return names.index(_normalize(column_option)), True
    elif names.count(EXPORTED_COLUMN) == 1:
        return names.index(EXPORTED_COLUMN), True
    elif len(filled_indexes) == 1:
        return filled_indexes[0], is_heading
    # A file that the command has written for --failed-lines, uploaded with the --column of the first upload.
    if [names[index] for index in filled_indexes] == [EXPORTED_COLUMN]:
        return filled_indexes[0], True
    key = "sources.no_column" if column_option else "sources.which_column"
    likely = next((cell.strip() for cell, name in zip(first_row, names, strict=True) if name in _KEYS), "N")
    raise FileProblemError(
        key, column=column_option, columns=_list_columns(first_row, with_names=is_heading), likely=likely
    )


def _normalize(name: str) -> str:
    """Return *name* in a form that is equal for all common ways to write it."""
    return re.sub(r"[\s_-]+", "_", name.strip(" \t\r\"'“”:：\ufeff").casefold())


def _list_columns(first_row: Sequence[str], *, with_names: bool) -> str:
    """List the columns by number. Without a heading, omit the names, because the first row may hold card keys."""
    if not with_names:
        return f"1-{len(first_row)}" if len(first_row) > 1 else "1"
    return ", ".join(f"{number} ({cell.strip()[:_SHOWN_NAME_CHARS]})" for number, cell in enumerate(first_row, 1))
