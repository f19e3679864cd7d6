"""The wire protocol: `notification_service.proto` and what protoc makes of it.

After a change of the .proto, run in the plugin's folder:

    python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. --grpc_python_out=. \
        aiflow_notification_server/protocol/notification_service.proto

with the oldest grpcio-tools that `pyproject.toml` allows: generated code refuses to run with a
grpcio or protobuf older than its maker.
"""
