import { ERROR_CODES } from "blip-web";
import { Captioned } from "./captioned.js";

// Rendered on the server: importing the package there does nothing.
export default function Page() {
  return (
    <main>
      <p>{ERROR_CODES.length} codes</p>
      <Captioned src="/scene.png" />
    </main>
  );
}
