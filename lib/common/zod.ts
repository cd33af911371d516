// zod/mini, which checks what comes from files and other programs. Loaded by require: its 97 ES modules would cost a tenth of a
// second at every start.

import { createRequire } from "node:module";
import type * as Z from "zod/mini";

export const z: typeof Z = createRequire(import.meta.url)("zod/mini");
z.config(z.locales.en()); // it has no messages until a language is chosen

export declare namespace z {
  type infer<T> = Z.infer<T>;
  type output<T> = Z.output<T>;
  type ZodMiniType<Output = unknown, Input = unknown> = Z.ZodMiniType<Output, Input>;
  type ZodMiniArray<T extends Z.core.SomeType = Z.core.$ZodType> = Z.ZodMiniArray<T>;
  type ZodMiniEnum<T extends Z.core.util.EnumLike = Z.core.util.EnumLike> = Z.ZodMiniEnum<T>;
  namespace core {
    type $ZodType<Output = unknown, Input = unknown> = Z.core.$ZodType<Output, Input>;
    type $ZodError = Z.core.$ZodError;
  }
}
