"""The words that errors may quote from a reply with card keys. Any other word might be a card key."""

from __future__ import annotations

from typing import Final

# The words in titles of error pages, login pages and firewalls, and in messages of operating systems, of TLS and of
# HTTP libraries.
_WORDS = """
a able accept access account action address after again all already allowed an and any apache api application are as
ask at attempt attempts attention authentication authority authorization available bad be because been before block
blocked body broken browser but by bytes call can cannot certificate changed check checking chunk city client close
closed closing cloudflare code complete completed conflict connect connected connecting connection content continue
cookie could count created database denied descriptor device did different disconnected dns do does down due early
empty enable encoding end entity eof errno error errors event exception exceeded expected expectation expired failed
failure fatal file for forbidden found free from gateway get gone handle handshake has have header headers hello
home host hostname hotel html http https id if illegal in incomplete information input instance insufficient
internal invalid is issuer it its javascript json just keep key kind known later layer length limit line local log
login long lost mail maintenance malformed mapping match maximum message messages method mismatch missing mode
modified moment more moved msg multiple must name names negative network new nginx no node none not nothing number of
offline ok on one only open openresty operation or other out outbound over page parameter partial path payload pay
payment peer permanent permanently permission php plain please pool port portal precondition problem process
processing protocol provided proxy query range reach reached read reason receive received record redirect refused
rejected remote renewed request requested required reset resolution response result retry robot route safe secure
security self self-signed send sending sent server service session set shop sign signature signed site slow so
socket something sorry source ssl start started state status stream success support supported switching system
tcp temporarily temporary terminated than that the then there this time time-out timed timeout title tls to token
tomcat too transfer transport trusted try type unable unauthorized unavailable under unexpected unknown unreachable
unspecified until up update upgrade url use used user valid value verification verified verify version via violation
waiting waf want was web website welcome were what when while wifi with without wrong you your zero
content-length content-type keep-alive transfer-encoding
certificate_verify_failed unexpected_eof_while_reading wrong_version_number sslv3_alert_handshake_failure
tlsv1_alert_internal_error tlsv1_alert_protocol_version tlsv1_unrecognized_name record_layer_failure
"""
WORDS: Final = frozenset(_WORDS.split())

# The same in Chinese, which has no blanks between words. The longest phrases come first.
PHRASES: Final = (
    "系统发生错误",
    "没有找到站点",
    "网站防火墙",
    "请稍后再试",
    "服务器错误",
    "服务不可用",
    "访问被拒绝",
    "页面不存在",
    "系统维护",
    "安全验证",
    "页面错误",
    "网络错误",
    "请求超时",
    "错误页面",
    "维护中",
    "未找到",
    "登录",
    "登陆",
    "首页",
    "错误",
    "系统",
    "页面",
    "维护",
    "拦截",
    "验证",
    "超时",
)

# The fields of GatePay's replies, and those with which gateways and frameworks report errors.
_FIELDS = """
admin_id appkey cat_id cat_name category category_id code content create_at created_at createtime current_page data
description id image images items ka kami last_page list msg name num order order_id order_name order_price
order_qrcode order_status order_type order_url out_order_id page params pay_order_id pay_product_id pay_type pay_url
per_page price product product_id product_num products qrcode qrcode_url status stock sum time total type update_at
updated_at updatetime url
cause class detail details error error_code errors exception file info instance line message ok path reason request
request_id requestid result results success timestamp title trace
"""
FIELDS: Final = frozenset(_FIELDS.split())

_MEDIA_TYPES = """
application/javascript application/json application/octet-stream application/pdf application/problem+json
application/x-www-form-urlencoded application/xhtml+xml application/xml image/gif image/jpeg image/png
image/svg+xml image/webp text/css text/csv text/event-stream text/html text/javascript text/plain text/xml
"""
MEDIA_TYPES: Final = frozenset(_MEDIA_TYPES.split())
