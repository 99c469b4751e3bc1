"""
Spans and metrics of calls, uploads and callbacks, with OpenTelemetry's API. Needs the extra ``otel``.

See ``instrument``.
"""

try:
    from gatepay_async.otel.instrumenting import instrument
except ModuleNotFoundError as error:
    if str(error.name).startswith("gatepay_async"):
        raise
    message = f"telemetry needs {error.name}, which is not installed: pip install 'gatepay-async[otel]'"
    raise ModuleNotFoundError(message, name=error.name) from error

__all__ = ["instrument"]
