"""Asks a scaler as KEDA does, with what protoc makes of KEDA's own file.

keda.py STUBS ADDRESS [ROOTS KEY CERTIFICATE]: one question a line on standard input, one JSON answer a line.
"""
import json, sys
sys.path.insert(0, sys.argv[1])
import grpc
from google.protobuf.json_format import MessageToDict
import externalscaler_pb2 as keda, externalscaler_pb2_grpc
import health_pb2 as health, health_pb2_grpc

address, tls = sys.argv[2], [open(path, 'rb').read() if path else None for path in sys.argv[3:]]
channel = grpc.secure_channel(address, grpc.ssl_channel_credentials(*tls)) if tls else grpc.insecure_channel(address)
scaler, prober = externalscaler_pb2_grpc.ExternalScalerStub(channel), health_pb2_grpc.HealthStub(channel)
of = keda.ScaledObjectRef(name='worker', namespace='mill', scalerMetadata={'scalerAddress': address})


def say(message):
    shown = MessageToDict(message, including_default_value_fields=True)
    print(json.dumps(shown), flush=True)


for line in sys.stdin:
    question, _, argument = line.strip().partition(' ')
    try:
        if question == 'GetMetrics':
            say(scaler.GetMetrics(keda.GetMetricsRequest(scaledObjectRef=of, metricName=argument), timeout=10))
        elif question == 'Health':
            say(prober.Check(health.HealthCheckRequest(service=argument), timeout=10))
        elif question.startswith('Stream'):
            for message in getattr(scaler, question)(of):
                say(message)
            print(json.dumps({'ended': True}), flush=True)
        else:
            say(getattr(scaler, question)(of, timeout=10))
    except grpc.RpcError as error:
        print(json.dumps({'error': error.code().name}), flush=True)
