"""The embedded model FaceLLM-nano: image stage, language stage, export."""
