"""What stands between the MCP conformance suite and a hub: the suite speaks plain HTTP and has no
token, the hub speaks TLS and wants one. A proxy on loopback adds both and passes everything else on
as it comes, each piece of a stream at once."""
import http.client
import ssl
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "host", "authorization", "content-length"}


class Server(ThreadingHTTPServer):
    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], ConnectionError):  # clients hang up as they like
            super().handle_error(request, client_address)


class Front:
    def __init__(self, hub):
        front = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *a):
                pass

            def pass_on(self):
                front.serve(self)

            do_GET = do_POST = do_DELETE = do_PUT = pass_on

        self.hub, self.ctx = hub, ssl.create_default_context(cafile=str(hub.ca))
        self.seen = []  # (method, headers by lower-case name) of every request
        self.server = Server(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/mcp"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def serve(self, h):
        body = h.rfile.read(int(h.headers.get("Content-Length") or 0))
        headers = {k: v for k, v in h.headers.items() if k.lower() not in HOP_BY_HOP}
        self.seen.append((h.command, {k.lower(): v for k, v in h.headers.items()}))
        headers["Authorization"] = f"Bearer {self.hub.token}"
        up = http.client.HTTPSConnection("127.0.0.1", self.hub.ports[1], context=self.ctx, timeout=120)
        try:
            up.request(h.command, h.path, body or None, headers)
            r = up.getresponse()
            h.send_response(r.status)
            for k, v in r.getheaders():
                if k.lower() not in HOP_BY_HOP:
                    h.send_header(k, v)
            streams = (r.getheader("Content-Type") or "").startswith("text/event-stream")
            if streams:
                h.send_header("Connection", "close")
                h.end_headers()
                while piece := r.read1(65536):
                    h.wfile.write(piece)
                    h.wfile.flush()
                h.close_connection = True
            else:
                data = r.read()
                if r.status != 204:
                    h.send_header("Content-Length", str(len(data)))
                h.end_headers()
                h.wfile.write(data)
        except (BrokenPipeError, ConnectionResetError):
            h.close_connection = True  # the client hung up; so do we, and the hub sees it
        finally:
            up.close()
