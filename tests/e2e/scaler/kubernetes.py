"""A Kubernetes API that knows how to patch pods: kubernetes.py CERTIFICATE KEY. Prints its port, then each request."""
import json, ssl, sys
from http.server import BaseHTTPRequestHandler, HTTPServer


class Api(BaseHTTPRequestHandler):
    def do_PATCH(self):
        body = json.loads(self.rfile.read(int(self.headers['Content-Length'])))
        asked = {'path': self.path, 'body': body, 'type': self.headers['Content-Type'],
                 'authorization': self.headers['Authorization']}
        print(json.dumps(asked), flush=True)
        self.send_response(200)
        self.send_header('Content-Length', '2')
        self.end_headers()
        self.wfile.write(b'{}')

    def log_message(self, *_):
        pass


server = HTTPServer(('127.0.0.1', 0), Api)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
server.socket = context.wrap_socket(server.socket, server_side=True)
print(json.dumps({'port': server.server_address[1]}), flush=True)
server.serve_forever()
