// TeX to MathML: a list of [formula, whether it is displayed] comes in, a list of MathML goes out.
import { readFileSync } from "node:fs";
import temml from "temml";

const made = JSON.parse(readFileSync(0, "utf8")).map(([tex, displayMode]) => {
  try {
    return temml.renderToString(tex, { displayMode, throwOnError: true });
  } catch (error) {
    console.error(`${tex}\n${error.message}`);
    process.exit(1);
  }
});
process.stdout.write(JSON.stringify(made));
