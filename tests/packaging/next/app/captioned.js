"use client";

import { useBlip, useCaption } from "blip-web/react";
import { useEffect } from "react";

export function Captioned({ src }) {
  const { blip, status, error } = useBlip({ device: "cpu", modelBase: "/models/" });
  const caption = useCaption(blip, src);
  const failure = error ?? caption.error;
  useEffect(() => {
    if (failure) document.title = `ERROR: ${failure.code} ${failure.message}`;
    else if (caption.status === "done") document.title = `OK: ${caption.text}`;
  }, [failure, caption]);
  return <p id="caption">{caption.text || status}</p>;
}
