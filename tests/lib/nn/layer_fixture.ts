// A layer against a fixture of kind "layer": PyTorch's value and gradients for the same inputs and weights.

import { layerFixture } from "../../fixtures/layers/read.ts";
import { assertClose, compiled, eager, evaluate, type Operation } from "../../support.ts";

/**
 * The operation has the fixture's value and gradients, compiled and eager, to a millionth of the largest number: single
 * precision, which has some ten times that. Its arguments are the fixture's tensors of these names: "x", whose gradient
 * is d_x, or "weights/bias", whose gradient is grads/bias.
 */
export async function assertLayerFixture(
  fixture: string,
  operation: Operation,
  names: readonly string[],
): Promise<void> {
  const { tensors } = layerFixture(fixture);
  const dataOf = (name: string) => tensors.get(name)!.data;
  const args = names.map((name) => tensors.get(name)!);
  for (const [how, engine] of Object.entries({ compiled, eager })) {
    const { values, grads } = await evaluate(engine, operation, args, { dy: dataOf("d_out") });
    const gradients = names.map((name) =>
      name.startsWith("weights/") ? name.replace("weights", "grads") : `d_${name}`,
    );
    for (const [i, name] of ["out", ...gradients].entries()) {
      const expected = dataOf(name);
      const atol = 1e-6 * Math.max(1, ...expected.map(Math.abs));
      assertClose(i === 0 ? values : grads[i - 1]!, expected, { atol, label: `${name} of ${fixture}, ${how}` });
    }
  }
}
