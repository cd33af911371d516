// Writes protobuf messages whose types are a table: ONNX models and TensorBoard's event files. Leaves out reading.

import protobuf from "protobufjs/light.js";

/** By type and field: [number, type, "repeated"?]. */
export type Messages = Record<string, Record<string, [id: number, type: string, rule?: "repeated"]>>;

/** An encoder of messages of the type `name`. A field that a message lacks is left out. */
export function encoderOf(messages: Messages, name: string): (message: object) => Uint8Array {
  const root = new protobuf.Root();
  for (const [typeName, fields] of Object.entries(messages)) {
    const type = new protobuf.Type(typeName);
    for (const [field, [id, fieldType, rule]] of Object.entries(fields)) {
      type.add(new protobuf.Field(field, id, fieldType, rule));
    }
    root.add(type);
  }
  const wanted = root.lookupType(name);
  return (message) => wanted.encode(message).finish();
}
