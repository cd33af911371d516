// TensorFlow.js, loaded in a quarter of the time that `import * as tf from "@tensorflow/tfjs"` takes: by require, so that Node
// doesn't search 1.3 MB of CommonJS for the names of its exports, and without the source maps of its packages (16 MB), which tsx
// has Node read otherwise. Importing the package itself gives the same module.

import { createRequire } from "node:module";

import type * as TF from "@tensorflow/tfjs";

export const tf: typeof TF = load();

export declare namespace tf {
  type Tensor<R extends TF.Rank = TF.Rank> = TF.Tensor<R>;
  type Scalar = TF.Scalar;
  type Tensor1D = TF.Tensor1D;
  type Tensor2D = TF.Tensor2D;
  type Tensor3D = TF.Tensor3D;
  type Tensor4D = TF.Tensor4D;
  type TensorContainer = TF.TensorContainer;
  type TensorInfo = TF.TensorInfo;
  type DataType = TF.DataType;
  type DataId = TF.DataId;
  type BackendValues = TF.BackendValues;
  type NamedTensorMap = TF.NamedTensorMap;
  type NamedAttrMap = TF.NamedAttrMap;
  type KernelFunc = TF.KernelFunc;
  type KernelBackend = TF.KernelBackend;
  type GradSaveFunc = TF.GradSaveFunc;
}

function load(): typeof TF {
  const { sourceMapsEnabled = true } = process as { sourceMapsEnabled?: boolean }; // from Node 20.7 on; tsx has set it
  process.setSourceMapsEnabled(false);
  try {
    const loaded: typeof TF = createRequire(import.meta.url)("@tensorflow/tfjs");
    loaded.enableProdMode(); // else it greets on stderr, and checks every kernel's numbers
    return loaded;
  } finally {
    process.setSourceMapsEnabled(sourceMapsEnabled);
  }
}
