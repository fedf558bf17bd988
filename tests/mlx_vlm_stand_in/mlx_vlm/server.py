"""The server of the stand-in: answers with as many tokens as are requested, or ends where a file says so."""

import argparse
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Handler(BaseHTTPRequestHandler):
    """Answers like an OpenAI server."""

    def do_GET(self):
        """Report that the model is loaded."""
        self._answer({})

    def do_POST(self):
        """Answer one page."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert body["messages"][0]["content"][0]["image_url"]["url"].startswith("data:image/png;base64,")
        self._answer({"usage": {"completion_tokens": body["max_tokens"]}})

    def log_message(self, *_):
        """Log nothing."""

    def _answer(self, content):
        text = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    for name in ("--model", "--host", "--port"):
        parser.add_argument(name)
    options = parser.parse_args()
    if (Path(options.model) / "unfit").exists():
        sys.exit("this model is not supported")
    ThreadingHTTPServer((options.host, int(options.port)), Handler).serve_forever()
